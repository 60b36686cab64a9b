"""`sttx watch`: rounds as lines, alarms and exit codes, the hook, live sessions that grow and vanish."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from sttx_cli.commands.watch import ALARM

LOOP = 12
"""Times that a round is repeated in a session with a loop."""


def records(session, rounds, *, seed=0):
    """Return records of rounds: those of other numbers differ, and equal numbers are equal rounds."""
    lines = []
    for place, number in enumerate(rounds):
        dice = random.Random(f"{session} {seed} {number}")
        words = ["".join(dice.choices("abcdefghijklmnop", k=6)) for _ in range(16)]
        block = {"id": f"{session}-{place}", "type": "tool_use", "name": "Bash"}
        call = [{**block, "input": {"command": " ".join(words[:5])}}]
        result = [{"type": "tool_result", "tool_use_id": f"{session}-{place}", "content": " ".join(words)}]
        for kind, content in (("assistant", call), ("user", result)):
            lines.append(
                {
                    "type": kind,
                    "uuid": f"{session}-{place}-{kind}",
                    "sessionId": session,
                    "cwd": "/home/ada/basket",
                    "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
                    "message": {"role": kind, "content": content},
                }
            )
    return "".join(json.dumps(line) + "\n" for line in lines)


WORK, STUCK = range(8), [*range(8), *[7] * LOOP]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a session of work and one with a loop."""
    place = tmp_path / "sessions"
    place.mkdir()
    (place / "work.jsonl").write_text(records("work", WORK))
    (place / "stuck.jsonl").write_text(records("stuck", STUCK))
    return place


@pytest.fixture
def watch(sttx, tiny_model):
    """Return the command as a function of its further arguments."""

    def run(*arguments):
        return sttx("watch", *arguments, "--model", tiny_model, "--threads", 1)

    return run


def test_a_line_a_round_and_an_exit_code_for_alarms(watch, folder):
    result = watch(folder, "--once", "--json")
    assert result.code == ALARM == 3, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    by_session = {name: [row for row in rows if row["session"] == name] for name in ("work", "stuck")}
    assert {name: len(rows) for name, rows in by_session.items()} == {"work": 8, "stuck": 8 + LOOP}
    assert {"session", "round", "tool", "bytes", "bits", "alarm"} <= rows[0].keys()
    assert [row["round"] for row in by_session["stuck"]] == list(range(1, 9 + LOOP))
    assert not any(row["alarm"] for row in by_session["work"])
    (alarm,) = [row for row in by_session["stuck"] if row["alarm"]]
    assert alarm["round"] > 9 and alarm["looping"] and alarm["tool"] == "Bash"
    assert alarm["bits"] < 0.1 * alarm["network_bits"] == 0.1 * alarm["frozen_bits"]
    assert "loop: session stuck in basket has brought nothing new for" in result.err
    assert "Watched 28 rounds of 2 agents" in result.err and "1 alarm," in result.err


def test_without_alarms_the_exit_code_is_0_and_there_is_a_table(watch, folder):
    result = watch(folder / "work.jsonl", "--once")
    assert result.code == 0 and "0 alarms" in result.out
    assert result.out.startswith("last rounds of 1 agent\nsession")
    assert watch(folder / "stuck.jsonl", "--once", "--threshold", 1000).code == 0


def test_the_threshold_decides(watch, folder):
    def first(*threshold):
        lines = watch(folder / "stuck.jsonl", "--once", "--json", *threshold).out.splitlines()
        return next(row["round"] for row in map(json.loads, lines) if row["alarm"])

    assert first("--threshold", 1) < first()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--once", "--tail", 9], "--tail would have no effect with --once"),
        (["--once", "--threshold", 0], "--threshold must be above 0"),
        (["--once", "--exec", "no-such-program-here"], "there is no program 'no-such-program-here'"),
        (["--once", "--exec", "sh -c 'x"], "cannot be split into words"),
        (["--once", "--exec", " "], "--exec is empty"),
        (["--checkpoint", "missing"], "missing"),
        (["--tail", 0], "--tail"),
    ],
)
def test_what_cannot_be_is_refused_at_once(watch, folder, arguments, message):
    result = watch(folder, *arguments)
    assert result.code == 2 and message in result.err and "Traceback" not in result.err


def test_an_empty_source_is_an_error_and_one_without_rounds_is_not(watch, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    assert watch(tmp_path / "empty.jsonl", "--once").code == 1
    talk = {"type": "user", "uuid": "u", "sessionId": "s", "message": {"role": "user", "content": "hello"}}
    (tmp_path / "talk.jsonl").write_text(json.dumps(talk) + "\n")
    result = watch(tmp_path / "talk.jsonl", "--once")
    assert result.code == 0 and "Watched 0 rounds" in result.out


def test_since_skips_older_rounds(watch, folder):
    assert watch(folder, "--once", "--since", "2099-01-01").code == 1
    assert watch(folder, "--once", "--since", "2020-01-01").code == ALARM


def hook(script, *arguments):
    return shlex.join([sys.executable, "-c", script, *map(str, arguments)])


def test_the_hook_gets_each_alarm_once_as_json_and_no_text_of_sessions_elsewhere(watch, folder, tmp_path):
    saved = tmp_path / "alarms"
    script = "import sys, os; open(sys.argv[1], 'a').write(sys.stdin.read() + repr(sys.argv[2:]) + '\\n')"
    result = watch(folder, "--once", "--exec", hook(script, saved, "$HOME; `id`"))
    assert result.code == ALARM, result.err
    alarm, arguments = saved.read_text().splitlines()
    facts = json.loads(alarm)
    assert (facts["session"], facts["alarm"], facts["project"]) == ("stuck", True, "basket")
    assert arguments == "['$HOME; `id`']", "no shell expands the command"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no \x1b[2J bell')", r"failed with exit code 1: no \x1b[2J bell"),
        ("import os; os.kill(os.getpid(), 9)", "failed with exit code -9"),
    ],
)
def test_a_hook_that_fails_is_reported_and_nothing_else(watch, folder, script, said):
    result = watch(folder, "--once", "--json", "--exec", hook(script))
    assert result.code == ALARM and said in result.err
    assert "--exec failed for 1 alarm." in result.err and "\x1b" not in result.err


class Started:
    """A running `sttx watch`, whose lines on standard output are collected."""

    def __init__(self, process):
        self.process, self.lines = process, []
        self.errors: list[str] = []
        self.threads = [
            threading.Thread(target=into.extend, args=(stream,), daemon=True)
            for stream, into in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for thread in self.threads:
            thread.start()

    def wait_for(self, condition, seconds=300):
        deadline = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < deadline and self.process.poll() is None, self.errors
            time.sleep(0.05)

    def rows(self, session):
        return [row for row in map(json.loads, self.lines) if row["session"] == session]

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(300)
        self.close()
        return code, "".join(self.errors)

    def close(self):
        self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def start(tiny_model, tmp_path):
    """Return a function that starts `sttx watch` in a process of its own."""
    started = []

    def run(*arguments):
        line = ["watch", *arguments, "--model", tiny_model, "--threads", 1]
        child = subprocess.Popen(
            [sys.executable, "-m", "sttx_cli", *map(str, line)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Started(child))
        return started[-1]

    yield run
    for watch in started:
        watch.close()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_live_sessions_grow_and_vanish_and_a_signal_ends_it(start, folder):
    watch = start(folder, "--json")
    watch.wait_for(lambda it: len(it.rows("stuck")) == 8 + LOOP and len(it.rows("work")) == 8)
    (folder / "stuck.jsonl").unlink()
    before = sorted(folder.iterdir())
    with (folder / "work.jsonl").open("a") as file:
        file.write(records("work", STUCK).split("\n", 2 * len(WORK))[-1])
    watch.wait_for(lambda it: any(row["alarm"] for row in it.rows("work")))
    (folder / "new.jsonl").write_text(records("new", WORK))
    watch.wait_for(lambda it: len(it.rows("new")) == 8)
    (folder / "new.jsonl").unlink()
    code, said = watch.end()
    assert code == 0 and "3 agents" in said and "2 alarms" in said and "Traceback" not in said
    assert sorted(folder.iterdir()) == before, "it writes nothing"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_of_a_long_history_only_the_end_is_priced(start, folder):
    (folder / "long.jsonl").write_text(records("long", range(200)))
    watch = start(folder, "--json", "--tail", 1)
    watch.wait_for(lambda it: it.rows("long") and it.rows("work"))
    with (folder / "work.jsonl").open("a") as file:
        file.write(records("later", [1]))
    watch.wait_for(lambda it: it.rows("later"))
    code, said = watch.end(signal.SIGTERM)
    assert code == 0 and "Skipped" in said
    assert len(watch.rows("long")) < 100
