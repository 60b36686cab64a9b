"""`sttx report`: one page about sessions, and a summary of it."""

import json
import re
import stat

import pytest
import torch

from sttx_ccsniff import open_source
from sttx_cli.commands import report
from sttx_core.render import render
from sttx_core.traces import Meta, UserMessage
from sttx_train import load_model, save_state


@pytest.fixture
def made(sttx, sessions, tiny_model, tmp_path):
    """Return a function that reports on the sessions with further arguments; it returns page and result."""

    def run(*arguments, source=sessions, out=tmp_path / "page.html"):
        result = sttx("report", source, "--model", tiny_model, "--out", out, *arguments)
        assert result.code == 0, result.err
        return out.read_text("utf-8"), result

    return run


def test_the_page_and_its_summary(made, sessions, tmp_path):
    page, result = made("--json")
    facts = result.json
    with open_source(str(sessions)) as source:
        texts = [render(trace) for trace in source]
    assert facts["page"] == {"path": str(tmp_path / "page.html"), "bytes": len(page.encode())}
    assert (facts["traces"], facts["bytes"]) == (len(texts), sum(map(len, texts)))
    assert [each["session"] for each in facts["sessions"]] == ["one", "two"]
    assert 0 < facts["bits"] < facts["frozen_bits"] and facts["sessions_left_out"] == 0
    assert facts["source"] == f"file {sessions}" and facts["redacted"] == {}
    assert page.startswith("<!doctype html>") and page.count('<details class="session"') == 2
    assert "Please run test number 3." in re.sub("<[^>]+>", "", page)
    assert str(tmp_path / "page.html") in result.err


def test_the_prices_are_those_of_score(sttx, made, sessions, tiny_model):
    _, result = made("--json", "--dtype", "float32", "--threads", "1")
    scored = sttx("score", sessions, "--model", tiny_model, "--json", "--threads", "1")
    rows = [json.loads(line) for line in scored.out.splitlines()]
    for name in ("bits", "frozen_bits"):
        assert result.json[name] == pytest.approx(sum(row[name] for row in rows), rel=1e-4)


def test_without_json_a_table_is_printed(made):
    _, result = made()
    first, blank, title, heads, *_ = result.out.splitlines()
    assert first.startswith("96 traces of 2 sessions, ") and "bits per byte, frozen" in first
    assert (blank, title) == ("", "most new for their length")
    assert heads.split()[:3] == ["session", "trace", "bits/byte"]
    ranks = [float(rank) for rank in re.findall(r"^.* (\d+\.\d\d)  ", result.out, re.MULTILINE)]
    assert ranks and ranks == sorted(ranks, reverse=True), "what is shown is what orders it"


def test_the_page_is_private(made, tmp_path):
    made()
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600


def test_the_title(made):
    page, _ = made("--title", "My <week>")
    assert "<title>My &lt;week&gt;</title>" in page and "<h1>My &lt;week&gt;</h1>" in page


def test_only_the_newest_text_is_read(made, sessions):
    _, everything = made("--json", "--limit", "0")
    _, result = made("--json", "--limit", "0.001")
    assert result.json["bytes"] <= 1000 < everything.json["bytes"]
    assert re.search(r"note: the newest 1 kB of \d+ kB of text are read: --limit 0 reads all", result.err)
    assert "note: the newest" not in everything.err
    with open_source(str(sessions)) as source:
        *_, last = source
    page, _ = made("--limit", "0.001")
    assert "Test number 11 passes." in render(last)
    assert "Test number 11 passes." in re.sub("<[^>]+>", "", page)


def test_since_skips_older_traces(made):
    _, result = made("--json", "--since", "2026-02-02T09:06:00+00:00")
    assert result.json["traces"] == 48


def test_the_newest_traces_are_whole_and_at_least_one():
    traces = [UserMessage(meta=Meta(session="s"), text="x" * 100) for _ in range(5)]
    size = len(render(traces[0]))
    for most, count in ((10**6, 5), (2 * size, 2), (2 * size - 1, 1), (1, 1)):
        kept, total, everything = report._newest(iter(traces), most)
        assert (len(kept), total, everything) == (count, count * size, 5 * size)


def test_the_newest_traces_are_so_by_time_and_keep_their_order():
    traces = [
        UserMessage(meta=Meta(session=session, time=time), text="x" * 100)
        for session, time in (("new", 8.0), ("new", 0.0), ("new", 9.0), ("old", 1.0), ("old", 0.0))
    ]
    size = len(render(traces[0]))
    for count, indices in ((1, [2]), (2, [1, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 4]), (5, [0, 1, 2, 3, 4])):
        kept, *_ = report._newest(iter(traces), count * size)
        assert list(kept) == [traces[index] for index in indices]


def test_a_state_and_a_checkpoint_have_an_effect(made, finished, tiny_model, tmp_path):
    _, plain = made("--json")
    _, learned = made("--json", "--checkpoint", finished)
    assert learned.json["bits"] < plain.json["bits"]
    sizes = load_model(tiny_model).model.config
    shape = (sizes.num_layers, sizes.num_heads, sizes.head_size, sizes.head_size)
    state = tmp_path / "state.safetensors"
    save_state(torch.full(shape, 0.5), state)
    _, tuned = made("--json", "--state", state)
    assert tuned.json["bits"] != plain.json["bits"]


def test_redaction_is_on_and_can_be_turned_off(sttx, tiny_model, tmp_path):
    source, out = tmp_path / "secret.jsonl", tmp_path / "page.html"
    key = "ghp_" + "k3Jd8sLqP0zXvB7nWm2RtYc5HfGa9EuToi1Q"
    record = {
        "type": "user",
        "sessionId": "s",
        "message": {"role": "user", "content": f"the key is {key} here"},
    }
    source.write_text(json.dumps(record) + "\n")
    for option, there in ((), False), (("--no-redact",), True):
        assert sttx("report", source, "--model", tiny_model, "--out", out, *option).code == 0
        assert (key in re.sub("<[^>]+>", "", out.read_text())) is there


def test_text_of_sessions_is_escaped_on_the_page_and_on_the_terminal(sttx, tiny_model, tmp_path):
    source, out = tmp_path / "evil.jsonl", tmp_path / "page.html"
    evil = "<script>alert(1)</script>\x1b]52;c;aGk=\x07"
    lines = [
        {
            "type": "user",
            "sessionId": f"s{evil}",
            "cwd": f"/x/{evil}",
            "message": {"role": "user", "content": text},
        }
        for text in (f"marigold {evil}", f"marigold {evil} again")
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = sttx("report", source, "--model", tiny_model, "--out", out)
    assert result.code == 0 and "\x1b" not in result.out + result.err + out.read_text()
    assert out.read_text().count("<script>") == 1


def test_dtypes(made):
    for dtype in ("float32", "bfloat16"):
        _, result = made("--dtype", dtype)
        assert f"dtype: {dtype} (asked for)" in result.err


@pytest.mark.parametrize("bf16", [True, False])
def test_the_fastest_dtype_is_chosen_and_the_choice_is_printed(made, monkeypatch, bf16):
    from sttx_train.devices import ChosenProducts

    monkeypatch.setattr(report, "choose_products", lambda device: ChosenProducts(bf16, "because"))
    _, result = made()
    assert ("dtype: bfloat16 (faster here: because)" in result.err) is bf16
    assert f"dtype: {'bfloat16' if bf16 else 'float32'} (" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "page.txt"], "must end in '.html'"),
        (["--out", "nowhere/page.html"], "there is no folder 'nowhere'"),
        (["--out", "page.html", "--limit", "-1"], "--limit must be 0 or more megabytes, not -1.0"),
        (["--out", "page.html", "--limit", "nan"], "--limit must be 0 or more megabytes, not nan"),
        (["--out", "page.html", "--since", "yesterday"], "is not a time"),
        (["--out", "page.html", "--model", "nobody"], "no model at 'nobody'"),
        (["--out", "page.html", "--checkpoint", "a", "--state", "b.pth"], "there is one state to use"),
        (["--out", "page.html", "--no-redact", "--redact-rules", "r.toml"], "would have no effect"),
        ([], "Missing option '--out'"),
    ],
)
def test_wrong_arguments(sttx, sessions, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = sttx("report", sessions, *arguments)
    assert result.code == 2 and words in result.err and not (tmp_path / "page.html").exists()


def test_a_link_or_a_folder_is_refused_before_anything_is_read(sttx, sessions, tmp_path):
    target = tmp_path / "target.html"
    target.write_text("mine")
    (tmp_path / "link.html").symlink_to(target)
    (tmp_path / "folder.html").mkdir()
    for name in ("link.html", "folder.html"):
        result = sttx("report", sessions, "--out", tmp_path / name)
        assert result.code == 2 and name in result.err and "loading" not in result.err
    assert target.read_text() == "mine"


def test_an_empty_source_writes_no_page(sttx, tiny_model, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    result = sttx("report", empty, "--model", tiny_model, "--out", tmp_path / "page.html")
    assert result.code == 1 and "it is empty" in result.err and not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("limit", [0, 1])
def test_a_source_without_text_is_noticed_before_the_model_is_loaded(sttx, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(report, "load", None)
    silent = tmp_path / "silent.jsonl"
    silent.write_text('{"type":"system","sessionId":"s","uuid":"1","content":"hm"}\n')
    result = sttx("report", silent, "--out", tmp_path / "page.html", "--limit", limit)
    assert result.code == 1 and "none became a trace" in result.err
