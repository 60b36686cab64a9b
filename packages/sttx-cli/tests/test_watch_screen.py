"""The parts of `sttx watch` without a model: what waits, the table, alarms in words, the hook's thread."""

import io
import json
import sys
import threading
import time

import pytest
from rich.console import Console

from sttx_ccsniff import open_source
from sttx_cli.arrivals import Arrivals
from sttx_cli.hook import Hook, parsed_command
from sttx_cli.output import Drawn
from sttx_cli.rounds_table import MOST_AGENTS, RoundsTable, alarm_sentence, round_facts, round_line
from sttx_core.errors import SourceError, UsageError
from sttx_core.traces import Meta, Other, UserMessage
from sttx_train.watch import Round, Verdict, Watched


def watched(
    session="s", number=1, *, tool="Bash", looping=False, fires=False, agent="", project="basket", bits=50.0
):
    one = Round(
        session=session,
        agent=agent,
        project=project,
        number=number,
        tool=tool,
        uid="u",
        time=0.0,
        bytes=100,
        bits=bits,
        network_bits=90.0,
        frozen_bits=float("nan"),
    )
    return Watched(
        round=one, verdict=Verdict(level=3.0, usual=None, fires=fires, looping=looping, repeats=7 * looping)
    )


class Stream:
    """A source of given traces, which ends with an error if one is given."""

    def __init__(self, traces, error=None):
        self.traces, self.error, self.taken, self.open = iter(traces), error, 0, threading.Event()

    def __iter__(self):
        return self

    def __next__(self):
        trace = next(self.traces, None)
        if trace is not None:
            self.taken += 1
            return trace
        if self.error:
            raise self.error
        raise StopIteration

    def close(self):
        self.open.set()


def said(session, text):
    return UserMessage(meta=Meta(session=session), text=text)


def arrive(traces, tail, error=None):
    source = Stream(traces, error)
    return source, Arrivals(source, tail=tail, clip=lambda trace: trace)


def taken(arrivals):
    traces = []
    while (trace := arrivals.take()) is not None:
        traces.append(trace)
    return traces


def test_all_traces_arrive_in_order_where_none_is_dropped():
    traces = [said(f"s{number % 3}", str(number)) for number in range(500)]
    source, arrivals = arrive(traces, None)
    with arrivals:
        time.sleep(0.05)
        assert source.taken < 100, "the thread waits for room"
        assert taken(arrivals) == traces
    assert arrivals.dropped == 0 and source.open.is_set()


def test_the_oldest_of_a_document_make_room_and_documents_take_turns():
    long, other = [said("long", f"{number:04d}") for number in range(100)], [said("b", "x"), said("b", "y")]
    _, arrivals = arrive([*long, *other], 60)
    with arrivals:
        arrivals._thread.join()
        kept = taken(arrivals)
    size = len("User: 0000\n\n")
    assert kept == [long[94], other[0], long[95], other[1], *long[96:]], "60 bytes and one trace more"
    assert arrivals.dropped == 94 * size


def test_traces_without_text_count_too():
    others = [Other(meta=Meta(session="s"), kind="k", raw="{}")] * 500
    _, arrivals = arrive([*others, said("s", "x")], 60)
    with arrivals:
        arrivals._thread.join()
        assert len(taken(arrivals)) == 61


def test_documents_that_wait_are_few(monkeypatch):
    monkeypatch.setattr("sttx_cli.arrivals.MOST_DOCUMENTS", 3)
    _, arrivals = arrive([said(name, "x") for name in "abcde"], 1000)
    with arrivals:
        arrivals._thread.join()
        assert [trace.meta.session for trace in taken(arrivals)] == ["c", "d", "e"]
    assert arrivals.dropped == 2 * len("User: x\n\n")


@pytest.mark.parametrize("tail", [None, 1000])
def test_an_error_comes_after_the_traces(tail):
    _, arrivals = arrive([said("s", "x")], tail, SourceError("the disk is gone"))
    with arrivals:
        assert arrivals.take() == said("s", "x")
        with pytest.raises(SourceError, match="the disk is gone"):
            arrivals.take()


def test_closing_ends_a_wait(tmp_path):
    with open_source(tmp_path, follow=True, redact=False) as source:
        arrivals = Arrivals(source, tail=1000, clip=lambda trace: trace)
        with arrivals:
            threading.Timer(0.1, arrivals.close).start()
            assert arrivals.take() is None


def drawn(table, width=100):
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def test_the_table_has_the_last_round_of_each_agent_and_loops_first():
    table = RoundsTable()
    for one in (
        watched("aaaaaaaa-1", 1, looping=True, fires=True),
        watched("bbbbbbbb-2", 1),
        watched("bbbbbbbb-2", 2, tool="Read\x1b[2J"),
        watched("bbbbbbbb-2", 1, agent="helper"),
    ):
        table.add(one)
    head, *lines = drawn(table.table())
    assert head.split()[:2] == ["session", "project"]
    assert [line.split()[0] for line in lines] == ["aaaaaaaa", "bbbbbbbb/helper", "bbbbbbbb"]
    assert "7 rounds" in lines[0] and r"Read\x1b[2J" in lines[2]
    assert (table.rounds, table.alarms, table.agents, table.bytes, table.bits) == (4, 1, 3, 400, 200.0)
    assert "(1 more)" in drawn(table.table(2))[-1]


def test_on_a_narrow_terminal_words_are_cut_off_and_numbers_are_whole():
    table = RoundsTable()
    long = {"project": "/a/long/path/of/many/words", "tool": "mcp__browser__take_a_snapshot", "bits": 950.0}
    for number in range(2):
        table.add(watched(f"{number}-a-long-name-of-a-session", 1234, looping=True, **long))
    head, *lines = drawn(table.table(20), 78)
    assert head.split("  ")[0] == "session" and head.split()[-1] == "loop" and len(lines) == 2
    assert all("1,234" in line and "9.500" in line and "7 rounds" in line for line in lines)
    assert all(line.count("…") == 2 and len(line) <= 78 for line in lines)


def test_a_past_alarm_is_counted():
    table = RoundsTable()
    table.add(watched(looping=True, fires=True))
    table.add(watched(number=2))
    assert "1 alarm" in drawn(table.table())[1]


def test_few_agents_are_kept():
    table = RoundsTable()
    for number in range(MOST_AGENTS + 9):
        table.add(watched(str(number)))
    assert table.rows == MOST_AGENTS and table.agents == table.rounds == MOST_AGENTS + 9


def test_a_drawn_table_is_laid_out_once_for_each_width():
    class Counted:
        times = 0

        def __rich_console__(self, console, options):
            self.times += 1
            yield f"width {options.max_width}"

    counted = Counted()
    table = Drawn(counted)
    assert drawn(table) == drawn(table) == ["width 100"] and counted.times == 1
    assert drawn(table, 40) == ["width 40"] and counted.times == 2


def test_a_round_as_json_has_no_value_that_json_lacks():
    facts = json.loads(round_line(watched(looping=True, fires=True)))
    assert facts == round_facts(watched(looping=True, fires=True))
    assert facts["frozen_bits"] is None and facts["alarm"] is True and facts["repeats"] == 7


def test_an_alarm_in_words_is_one_line():
    sentence = alarm_sentence(watched("a\nb\x1b[1m", tool="Ba\nsh", looping=True))
    assert "\n" not in sentence and "\x1b" not in sentence
    assert sentence.endswith("the last one Ba sh, round 1: 0.500 bits per byte, usually -")


def test_no_shell_reads_the_command():
    assert parsed_command("sh -c 'cat > \"$1\"' x '*'") == ["sh", "-c", 'cat > "$1"', "x", "*"]
    with pytest.raises(UsageError, match="no shell runs the command"):
        parsed_command("ENV=1 sh")


def test_a_slow_hook_is_ended_and_does_not_delay_the_work():
    notes = []
    script = "import time; time.sleep(60)"
    with Hook([sys.executable, "-c", script], timeout=0.5, say=notes.append) as hook:
        hook.alarm({"session": "s"})
        assert hook.failures == 0  # the command cannot have ended: nobody waited for it
    assert (hook.runs, hook.failures) == (1, 1) and notes[0].endswith("was ended after 0.5 s")


def test_the_end_waits_for_all_that_wait_as_long_as_for_one():
    notes = []
    script = "import time; time.sleep(60)"
    with Hook([sys.executable, "-c", script], timeout=0.5, say=notes.append) as hook:
        for _ in range(12):
            hook.alarm({})
    assert hook.failures == 12 and hook.runs < 12
    assert "was not run: those before it took too long at the end" in notes[-1]


def test_what_a_failed_command_printed_is_shown_wherever_it_printed_it():
    notes = []
    with Hook([sys.executable, "-c", "print('no bell'); raise SystemExit(2)"], say=notes.append) as hook:
        hook.alarm({})
    assert notes[0].endswith("failed with exit code 2: no bell")


def test_alarms_that_come_too_fast_are_reported(tmp_path, monkeypatch):
    notes = []
    hook = Hook(["true"], say=notes.append)  # its thread does not run
    for _ in range(20):
        hook.alarm({})
    assert hook.runs == 0 and hook.failures == len(notes) == 4
    assert "16 alarms wait for it already" in notes[0]


def test_a_program_that_cannot_start_is_reported(tmp_path):
    notes = []
    broken = tmp_path / "broken"
    broken.write_text("not a program")
    with Hook([str(broken)], say=notes.append) as hook:
        hook.alarm({})
    assert hook.failures == 1 and "could not be started: permission denied" in notes[0]


def test_without_a_command_nothing_runs():
    with Hook(None, say=pytest.fail) as hook:
        hook.alarm({})
    assert hook.runs == 0
