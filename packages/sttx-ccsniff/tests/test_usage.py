import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.parse.usage import KINDS, UsageCounter
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen


@pytest.fixture
def report():
    return SourceReport(say=lambda message: None)


@pytest.fixture
def counter(report):
    return UsageCounter(report, Seen())


def message(name="msg_1", model="m", **usage):
    return {"id": name, "model": model, "usage": usage}


def test_a_message_counts_once_with_its_largest_usage(report, counter):
    for output in (1, 1, 90):
        counter.count(message(input_tokens=7, output_tokens=output, cache_read_input_tokens=1000))
    assert report.usage["m"] == {
        "input_tokens": 7,
        "output_tokens": 90,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1000,
    }


def test_lines_of_several_messages_may_be_interleaved(report, counter):
    for output in (1, 50):
        for name in range(8):
            counter.count(message(f"msg_{name}", output_tokens=output))
    assert report.usage["m"]["output_tokens"] == 8 * 50


def test_a_message_is_counted_by_the_model_that_wrote_it(report, counter):
    counter.count(message("msg_1", "large", output_tokens=1))
    counter.count(message("msg_2", "small", output_tokens=2))
    assert {model: tokens["output_tokens"] for model, tokens in report.usage.items()} == {
        "large": 1,
        "small": 2,
    }


def test_a_message_that_another_file_repeats_is_not_counted_again(report):
    seen = Seen()
    for _ in range(2):
        UsageCounter(report, seen).count(message(output_tokens=5))
    assert report.usage["m"]["output_tokens"] == 5


def test_messages_without_an_id_count_per_record(report, counter):
    for name in (None, "", 7):
        counter.count(message(name, output_tokens=5))
    assert report.usage["m"]["output_tokens"] == 15


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "a", "model": "<synthetic>", "usage": {"output_tokens": 1}},
        {"id": "a", "model": None, "usage": {"output_tokens": 1}},
        {"id": "a", "model": "m", "usage": None},
        {"id": "a", "model": "m"},
    ],
)
def test_messages_without_billed_tokens_are_not_counted(report, counter, odd):
    counter.count(odd)
    assert report.usage == {}


@pytest.mark.parametrize("tokens", [-1, 2**64, 1.5, True, "12", None, [], {}])
def test_invalid_token_counts_are_zero(report, counter, tokens):
    counter.count(message(output_tokens=tokens))
    assert report.usage["m"].total() == 0


def test_the_number_of_models_is_bounded(report, counter):
    for number in range(500):
        counter.count(message(f"msg_{number}", f"model-{number}" * 20, output_tokens=1))
    assert len(report.usage) < 100 and sum(tokens.total() for tokens in report.usage.values()) == 500
    assert max(map(len, report.usage)) < 100
    json.dumps(report.as_dict()["usage"])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 9), min_size=4, max_size=4)), max_size=30),
    st.integers(0, 30),
)
def test_counts_agree_with_the_definition_also_after_resuming(lines, cut):
    """The definition: the sum over messages of the largest count of each kind."""
    report, seen = SourceReport(), Seen()
    counter, most = UsageCounter(report, seen), {}
    for at, (name, tokens) in enumerate(lines):
        if at == cut:
            carried = json.loads(json.dumps(counter.state_dict()))
            counter = UsageCounter(report, seen)
            counter.load_state_dict(carried)
        counter.count(message(f"msg_{name}", **dict(zip(KINDS, tokens, strict=True))))
        most[name] = [*map(max, tokens, most.get(name, tokens))]
    wanted = {kind: sum(each) for kind, each in zip(KINDS, zip(*most.values(), strict=True), strict=False)}
    assert dict(report.usage.get("m", {})) == wanted


@pytest.mark.parametrize("state", [["a"], [["a", [1]]], [["a", [1, 2, 3, -4]]], [[1, [1, 2, 3, 4]]], [[]]])
def test_an_invalid_state_is_refused(counter, state):
    with pytest.raises(ValueError, match="not a state"):
        counter.load_state_dict(state)


def test_a_session_parser_counts_usage(record, report):
    parser = SessionParser("/p/s.jsonl", report, Seen())
    lines = [record("assistant", [{"type": "text", "text": word}]) for word in "ab"]
    for line, output in zip(lines, (1, 30), strict=True):
        line["message"] |= message(output_tokens=output)
    for line in [*lines, lines[0]]:
        parser.feed(json.dumps(line).encode())
    assert report.usage["m"]["output_tokens"] == 30


def test_each_subagent_has_its_own_count(record, report):
    parser = SessionParser("/p/s.jsonl", report, Seen())
    for name, subagent, tokens in (("1", "", 5), ("2", "a1", 7), ("1", "", 6)):
        line = record("assistant", "x", **({"agentId": subagent} if subagent else {}))
        line["message"] |= message(name, output_tokens=tokens)
        parser.feed(json.dumps(line).encode())
    output = {speaker: tokens["output_tokens"] for speaker, tokens in report.usage_by_speaker.items()}
    assert output == {("s", ""): 6, ("s", "a1"): 7}
    assert report.usage["m"]["output_tokens"] == 13
