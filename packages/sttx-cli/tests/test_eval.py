"""`sttx eval`: its contract, what its numbers must equal, controls, refusals, and the page."""

import json

import pytest
import torch

from sttx_cli.evaluation_page import page
from sttx_cli.evaluation_tables import kind_rows
from sttx_train import save_state
from sttx_train.evaluate import ARMS as KNOWN

ARMS = ["frozen", "network", "experts", "paid"]
PLACES = ("attic", "barn", "cellar", "shed")


def turn(session, minute, role, content):
    time = f"2026-03-05T10:{minute:02d}:00Z"
    fields = {"uuid": f"{session}-{minute}", "sessionId": session, "timestamp": time, "cwd": "/home/ada"}
    return json.dumps({"type": role, "message": {"role": role, "content": content}, **fields})


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """Return a folder of four short sessions."""
    folder = tmp_path_factory.mktemp("talks")
    for at, place in enumerate(PLACES):
        read = {"type": "tool_use", "id": "t", "name": "Read", "input": {"path": f"{place}.txt"}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": f"{at + 2} chairs, 1 lamp"}
        lines = [
            turn(place, 4 * at, "user", f"What is in the {place}?"),
            turn(place, 4 * at + 1, "assistant", [read]),
            turn(place, 4 * at + 2, "user", [result]),
            turn(place, 4 * at + 3, "assistant", f"There are {at + 2} chairs and a lamp in the {place}."),
        ]
        (folder / f"{place}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def evaluated(sttx, talks, tiny_model, tmp_path_factory):
    """Return the report of the default arms, and the page."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    result = sttx("eval", talks, "--model", tiny_model, "--workers", 1, "--json", "--out", out)
    assert result.code == 0, result.err
    return result.json, out.read_text()


@pytest.fixture(scope="module")
def trained(sttx, talks, tiny_model, tmp_path_factory):
    """Return the report of `sttx train` on the same sessions, and the folder of the run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    what = ("--model", tiny_model, "--threads", 1, "--device", "cpu", "--checkpoint-dir", folder)
    result = sttx("train", "--from", talks, *what, "--json")
    assert result.code == 0, result.err
    return result.json, folder


@pytest.fixture(scope="module")
def against(sttx, talks, tiny_model, trained, tmp_path_factory):
    """Return the result of a checkpoint beside its controls, on two of the sessions that it has read."""
    donor = tmp_path_factory.mktemp("donor") / "other.safetensors"
    save_state(0.3 * torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(3)), donor)
    sources = [talks / f"{place}.jsonl" for place in PLACES[:2]]
    what = ("--model", tiny_model, "--checkpoint", trained[1] / "latest", "--donor", donor, "--workers", 1)
    result = sttx("eval", *sources, *what, "--arms", "frozen,experts", "--json")
    assert result.code == 0, result.err
    return result.json


def test_a_run_with_outer_steps_is_priced_with_them(sttx, talks, tiny_model, tmp_path):
    model, run = ("--model", tiny_model), tmp_path / "run"
    line = ("train", "--from", talks, *model, "--threads", 1, "--device", "cpu", "--checkpoint-dir", run)
    done = sttx(*line, "--window", 16, "--state-lr", 0.5, "--policy", "schedule=0..:infer", "--json")
    assert done.code == 0, done.err
    line = ("eval", talks, *model, "--checkpoint", run, "--workers", 1, "--arms", "frozen,network", "--json")
    report = sttx(*line)
    assert report.code == 0, report.err
    arms = report.json["arms"]
    found = []
    for rate in ((), ("--state-lr", 0)):
        scored = sttx("score", talks, *model, "--checkpoint", run, "--experts", "off", "--json", *rate)
        assert scored.code == 0, scored.err
        found.append(sum(json.loads(row)["bits"] for row in scored.out.splitlines()))
    assert arms["network"]["bits"] == pytest.approx(found[0], rel=1e-4)
    assert arms["network"]["bits"] != pytest.approx(found[1], rel=1e-3)


def test_the_json_contract(evaluated):
    report, _ = evaluated
    assert list(report["arms"]) == ARMS
    for arm in report["arms"].values():
        assert arm["bpb"] == pytest.approx(arm["bits"] / report["bytes"])
        assert arm["seconds"] > 0 and arm["memory_mb"] > 10 and 0 < arm["steps_per_byte"] <= 1
    assert [row["session"] for row in report["sessions"]] == list(PLACES)
    assert all(list(row["bpb"]) == ARMS and row["bytes"] > 0 for row in report["sessions"])
    assert (report["controls"], report["learned"]) == (None, None)
    assert report["forgetting"].keys() == {"bytes", "frozen", "learned", "experts", "paid"}
    assert (report["transfer"]["tuned_on"], report["transfer"]["sessions"]) == (3, 1)


def test_paid_is_what_train_pays_bit_for_bit(evaluated, trained):
    arms, train = evaluated[0]["arms"], trained[0]
    assert evaluated[0]["bytes"] == train["bytes"]
    assert arms["paid"]["bpb"] == train["bpb"]["paid"]
    assert arms["network"]["bpb"] == pytest.approx(train["bpb"]["network"], rel=1e-6)
    assert arms["frozen"]["bpb"] == pytest.approx(train["bpb"]["frozen"], rel=1e-5)


@pytest.mark.parametrize("part", ["sessions", "kinds", "time"])
def test_the_parts_add_up_to_the_total(evaluated, part):
    report, _ = evaluated
    rows = report[part]
    assert sum(row["bytes"] for row in rows) == report["bytes"]
    for name, arm in report["arms"].items():
        assert sum(row["bytes"] * (row["bpb"][name] or 0) for row in rows) == pytest.approx(arm["bits"])
    if part == "time":
        assert len(rows) == 10


def test_kinds_are_types_and_tools(evaluated):
    kinds = {(kind["type"], kind["tool"]) for kind in evaluated[0]["kinds"]}
    assert kinds == {
        ("user_message", ""),
        ("tool_use", "Read"),
        ("tool_result", "Read"),
        ("assistant_message", ""),
    }


def test_intervals_cover_what_they_are_of(evaluated):
    report, _ = evaluated
    arms = report["arms"]
    for arm in arms.values():
        low, high = arm["interval"]
        assert low <= arm["bpb"] <= high
    for name, one in report["differences"].items():
        first, second = name.split("-")
        assert one["bpb"] == pytest.approx(arms[first]["bpb"] - arms[second]["bpb"], abs=1e-6)
        assert one["interval"][0] <= one["bpb"] <= one["interval"][1]
    assert list(report["differences"]) == ["paid-experts", "network-frozen"]


def test_every_arm_runs_and_differs_from_the_others(sttx, talks, tiny_model, monkeypatch):
    for user in ("jobs", "report", "evaluation"):  # the whole text would take most of the time
        monkeypatch.setattr(f"sttx_train.evaluate.{user}.general_text", lambda: "A few words.")
    what = ("--model", tiny_model, "--workers", 1, "--arms", ",".join(KNOWN), "--json")
    arms = sttx("eval", talks / "shed.jsonl", *what).json["arms"]
    assert list(arms) == list(KNOWN)
    assert arms["scope:state"]["bits"] == arms["paid"]["bits"]
    bits = {arm["bits"] for name, arm in arms.items() if name != "phrases"}  # a short text has no phrase yet
    assert len(bits) == len(arms) - 2
    assert all(arm["interval"] is None for arm in arms.values())


def test_a_state_is_measured_against_its_controls(against):
    report = against
    assert list(report["arms"]) == ["frozen", "experts"]
    assert list(report["controls"]) == ["zero", "donor", "shuffled"]
    frozen, network = report["arms"]["frozen"]["bpb"], report["state"]["network"]
    for control in report["controls"].values():
        assert control["network"]["lead"] == pytest.approx(control["network"]["bpb"] - network, abs=1e-5)
        assert control["paid"]["bpb"] < control["network"]["bpb"]
    assert report["controls"]["zero"]["network"]["bpb"] == pytest.approx(frozen, rel=1e-5)
    experts = report["arms"]["experts"]["bpb"]  # with the memory of the checkpoint
    assert report["controls"]["zero"]["paid"]["bpb"] == pytest.approx(experts, rel=1e-5)
    assert network < frozen  # it has read this text
    assert "other.safetensors" in report["donor"]


def test_sentences_say_whether_the_state_beat_its_controls(against):
    text = "\n".join(against["sentences"])
    for how in ("Alone, the state ", "Beside experts, the state "):
        line = next(line for line in text.splitlines() if line.startswith(how))
        assert "against zero" in line and "against donor" in line and "against shuffled" in line
        assert line.count(" to ") >= 3
    assert against["seen_sessions"] == 2 and "was learned from 2 of these 2 sessions" in text


def test_without_a_donor_a_state_is_tuned_on_the_sample(sttx, talks, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "one.jsonl").write_text(
        turn("sample", 1, "user", "Buy milk, eggs and bread.") + "\n"
    )
    monkeypatch.setattr("sttx_cli.commands.eval.sample_folder", lambda: tmp_path / "sample")
    save_state(0.1 * torch.randn(2, 1, 64, 64), tmp_path / "mine.safetensors")
    what = (
        "--model",
        tiny_model,
        "--state",
        tmp_path / "mine.safetensors",
        "--workers",
        1,
        "--arms",
        "frozen",
    )
    result = sttx("eval", talks / "attic.jsonl", *what)
    assert result.code == 0, result.err
    assert "The donor is a state tuned in this run on the sample sessions that come with sttx." in result.out
    assert "one session does not show whether the state beats its controls" in result.out
    head, row = [line.split() for line in result.out.splitlines()[1:3]]
    assert head[:4] == ["arm", "bits", "per", "byte"] and row[0] == "frozen"
    assert "user_message" in result.out and "shuffled" in result.out


def test_the_result_does_not_depend_on_the_number_of_workers(sttx, talks, tiny_model, evaluated):
    report = sttx("eval", talks, "--model", tiny_model, "--arms", "frozen", "--workers", 2, "--json").json
    one, other = report["arms"]["frozen"], evaluated[0]["arms"]["frozen"]
    assert (one["bits"], one["interval"]) == (other["bits"], other["interval"])
    assert report["transfer"] == evaluated[0]["transfer"]


def test_the_page_needs_no_other_and_runs_nothing(evaluated):
    _, text = evaluated
    assert "<svg" in text and text.count("<polyline") == len(ARMS)
    for word in ("http", "src=", "href", "<script", "<link", "url(", "@import"):
        assert word not in text
    assert "cellar" in text and "tool_use Read" in text


def test_names_of_others_stay_text_on_the_page_and_in_tables(evaluated):
    evil = "<script>alert(1)</script>\x1b]0;x\x07"
    report = json.loads(json.dumps(evaluated[0]))
    report["sessions"][0]["session"] = report["source"] = report["kinds"][0]["tool"] = evil
    text = page(report)
    assert "<script" not in text and "\x1b" not in text and "&lt;script&gt;" in text
    assert all("\x1b" not in cell for row in kind_rows(report).rows for cell in row)
    assert kind_rows(report, 1).rows[1][:2] == (
        "(3 more)",
        f"{sum(k['bytes'] for k in report['kinds'][1:]):,}",
    )


REFUSED = {
    "unknown arm": (
        2,
        "TALKS --arms frozen,all-in",
        "choose among frozen, network, experts, paid, scope:state",
    ),
    "two states": (2, "TALKS --checkpoint RUN --state STATE", "give one"),
    "donor alone": (2, "TALKS --donor STATE", "--donor would have no effect"),
    "arm of its own": (2, "TALKS --checkpoint RUN --arms phrases", "'phrases' learns from the start"),
    "missing checkpoint": (2, "TALKS --checkpoint MISSING", "MISSING"),
    "missing state": (2, "TALKS --state MISSING.pth", "no tuned state at"),
    "state that is not one": (2, "TALKS --state TEXT", "must end in '.safetensors', '.pth' or '.st'"),
    "missing donor": (2, "TALKS --state STATE --donor MISSING", "MISSING"),
    "missing model": (2, "TALKS --model MISSING", "no model at"),
    "missing source": (2, "MISSING", "MISSING"),
    "page of another kind": (2, "TALKS --out page.pdf", "must end in '.html'"),
    "page in a missing folder": (2, "TALKS --out MISSING/page.html", "make it first"),
    "no workers": (2, "TALKS --workers 0", "--workers"),
    "rules without redaction": (2, "TALKS --no-redact --redact-rules TEXT", "would have no effect"),
    "empty source": (1, "EMPTY", "no record in"),
    "source without text": (1, "SILENT", "no trace in"),
}


@pytest.mark.parametrize(("code", "line", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_comes_before_the_model_loads(sttx, talks, tmp_path, monkeypatch, code, line, words):
    monkeypatch.setattr("sttx_train.load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    for name in ("STATE.safetensors", "TEXT.toml", "EMPTY.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "RUN").mkdir()
    (tmp_path / "SILENT.jsonl").write_text(turn("quiet", 1, "user", "") + "\n")
    paths = {path.stem: path for path in tmp_path.iterdir()} | {
        "TALKS": talks,
        "MISSING": tmp_path / "MISSING",
    }
    result = sttx("eval", *(str(paths.get(word, word)) for word in line.split()))
    assert (result.code, result.out) == (code, "") and words in result.err
    assert "Traceback" not in result.err
