"""The benchmark of the loop alarm: what it plants, its detectors on made-up rows, and its arithmetic."""

import importlib
from pathlib import Path

import pytest

from sttx_core.traces import Meta, ToolResult, ToolUse, UserMessage
from sttx_train.watch import AlarmConfig, waits

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_loops")


@pytest.fixture
def loops(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("loops")


def a_round(number, command="npm test", output="3 tests failed\nthe file was not found\nin 2.1s"):
    meta = Meta(session="s", time=100.0 + number, uid=str(number))
    call = ToolUse(
        meta=meta, name="Bash", input={"command": command, "description": "Run it"}, id=str(number)
    )
    return call, ToolResult(meta=meta, name="Bash", output=output, id=str(number))


def made(planted, seed="seed"):
    return {one.kind: one for one in planted.episodes(a_round(2), a_round(1, "git status", "clean"), seed, 6)}


def test_everything_follows_from_the_seed(planted):
    assert made(planted) == made(planted)
    assert made(planted)["paraphrased"] != made(planted, "another")["paraphrased"]


def test_each_kind_of_loop_repeats_in_its_way(planted):
    kinds = made(planted)
    assert [kind for kind, one in kinds.items() if one.is_loop] == [
        "exact",
        "two-cycle",
        "stamped",
        "paraphrased",
    ]
    texts = {
        kind: [
            (call.input["command"], result.output)
            for call, result in zip(*[iter(one.traces)] * 2, strict=True)
        ]
        for kind, one in kinds.items()
        if one.is_loop
    }
    assert set(texts["exact"]) == {("npm test", a_round(1)[1].output)}
    assert texts["two-cycle"][:3] == [("git status", "clean"), texts["exact"][0], ("git status", "clean")]
    assert len(set(texts["stamped"])) == len(set(texts["paraphrased"])) == 6
    assert all("npm test" in command for kind in texts for command, _ in texts[kind] if "git" not in command)
    assert all("Done in" in output for _, output in texts["stamped"])


def test_planted_traces_continue_the_session_and_have_names_of_their_own(planted):
    for one in made(planted).values():
        assert {trace.document for trace in one.traces} == {"s"}
        assert len({trace.meta.uid for trace in one.traces}) == len(one.traces)
        times = [trace.meta.time for trace in one.traces]
        assert times == sorted(times) and times[0] > 102
        for call, result in zip(*[iter(one.traces)] * 2, strict=True):
            assert call.id == result.id and call.name == result.name


def test_most_polling_says_that_it_waits(planted):
    polls = {kind: one for kind, one in made(planted).items() if not one.is_loop}
    calls = {kind: [t for t in one.traces if isinstance(t, ToolUse)] for kind, one in polls.items()}
    assert {kind: all(map(waits, each)) for kind, each in calls.items()} == {
        "build": True,
        "server": True,
        "log": True,
        "quiet": False,
    }


def row(name, bits=500.0, network=700.0, *, waiting=False, agent="s", turn=0):
    return {
        "agent": agent,
        "bytes": 100,
        "bits": bits,
        "network": network,
        "tool": "Bash",
        "waits": waiting,
        "gist": name,
        "turn": turn,
        "hashes": [name] * 4,
    }


def in_turns(names):
    return [row(name, turn=turn) for turn, name in enumerate(names, 1)]


def test_hashes_are_counted_in_a_window_of_each_agent(loops):
    twice = loops.hash_detector(1, 2)
    assert twice(in_turns("abaa")) == [2]
    assert twice([row("a"), row("a", agent="t")]) == []
    assert twice(in_turns(["a", *map(str, range(10)), "a"])) == []
    assert twice([row("a", waiting=True)] * 5) == []
    assert twice([row("a", turn=1), row("b", turn=1), row("a", turn=1), row("a", turn=2)]) == [3]
    said = {"agent": "s", "bytes": 9, "bits": 9.0, "network": 9.0}
    first, *others = in_turns("aaa")
    assert loops.hash_detector(1, 3)([first, said, *others]) == [3]


def test_the_level_is_that_of_the_alarm(loops):
    rows = [*[row(str(number)) for number in range(5)], *[row("a", bits=1.0)] * 9]
    config = AlarmConfig()
    (at,) = loops.level_detector(config)(rows)
    levels = [level for level, _ in loops.levels(config, rows)]
    assert at >= 5 and levels[at] >= config.threshold > levels[at - 1]


def test_results_count_sessions_and_episodes(loops):
    episode = {"kind": "exact", "loop": True, "at": 2, "rows": [row("b", turn=turn) for turn in (4, 5, 6)]}
    sessions = [
        {"real": in_turns("abc"), "planted": [episode]},
        {"real": in_turns("aa"), "planted": []},
    ]
    result = loops.measure(sessions, loops.hash_detector(0, 2))
    assert (result["sessions"], result["sessions_with_alarms"], result["alarms"]) == (2, 1, 1)
    assert result["kinds"]["exact"]["rounds"] == 1.0 and result["kinds"]["exact"]["alarms"] == 1


def test_intervals_of_shares(loops):
    assert loops.wilson(0, 0) == (0.0, 1.0)
    low, high = loops.wilson(10, 10)
    assert low == pytest.approx(0.722, abs=0.001) and high == 1.0


def test_places_follow_eight_rounds_and_do_not_wait(loops):
    traces = [UserMessage(meta=Meta(session="s"), text="hello")]
    for number in range(12):
        traces += a_round(number, "sleep 5" if number == 10 else "ls")
    indices = [index for index, _, _ in loops.places(traces)]
    assert [traces[index].id for index in indices] == ["8", "9", "11"]


def test_what_is_kept_is_of_the_same_contents(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    kept = importlib.import_module("kept")
    session, made = tmp_path / "session.jsonl", []

    def price():
        made.append(session.read_text())
        return made[-1]

    def again(folder=tmp_path / "cache", **options):
        return kept.kept(folder, price, kept.digest(session), options)

    session.write_text("one")
    assert [again(), again()] == ["one", "one"] and len(made) == 1
    session.write_text("two")
    assert [again(), again(), again(rounds=6)] == ["two"] * 3 and len(made) == 3
    assert again(folder=None) == "two" and len(made) == 4


def test_the_digest_of_code_is_of_all_that_a_package_holds(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = importlib.import_module("kept")
    package = tmp_path / "a_package_of_code"
    package.mkdir()
    (package / "__init__.py").write_text("")
    module = importlib.import_module("a_package_of_code")
    before = kept.code_digest(module)
    cache = package / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "compiled.py311.nbi").write_bytes(b"1")
    assert before == kept.code_digest(module)
    (package / "new.py").write_text("x = 1")
    assert before != kept.code_digest(module)
