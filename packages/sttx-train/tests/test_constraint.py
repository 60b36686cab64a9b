"""Constrained output: every text is what its schema, expression or tool says, and nothing else is changed."""

import json
import re

import numpy as np
import pytest

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.traces import Meta, ToolUse
from sttx_train import Predictor, SamplingConfig
from sttx_train.generate import Constraint, Generation, step_all

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["file", "folder"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["name", "kind", "sizes"],
    "additionalProperties": False,
}
TOOLS = {
    "Bash": {
        "type": "object",
        "properties": {"command": {"type": "string", "pattern": "^[a-z ]{1,12}$"}},
        "required": ["command"],
        "additionalProperties": False,
    },
    "Stop": {"type": "object", "additionalProperties": False},
}
REGEX = r"[a-c]{2,4}(-[0-9]{1,3})? (yes|no|caf\u{e9})"
SEEDS = range(8)


@pytest.fixture(scope="module")
def predictor(tiny):
    return Predictor(tiny(), experts=False)


def texts(predictor, constraint, **options):
    """Yield a whole text of each seed."""
    for seed in SEEDS:
        sampling = SamplingConfig(seed=seed, **options)
        generation = predictor.generate("to do", sampling, max_tokens=200, constraint=constraint)
        text = "".join(generation)
        assert generation.finish_reason == "end", text
        assert generation.data.decode() == text == generation.text
        yield text


def test_every_text_is_json_of_its_schema(predictor):
    found = list(texts(predictor, Constraint.of_schema(SCHEMA)))
    for text in found:
        value = json.loads(text)
        assert list(value) == ["name", "kind", "sizes"]
        assert isinstance(value["name"], str) and len(value["name"]) <= 8
        assert value["kind"] in ("file", "folder")
        assert len(value["sizes"]) <= 3 and all(
            type(size) is int and 0 <= size <= 99 for size in value["sizes"]
        )
        assert text == json.dumps(value, separators=(",", ":"), ensure_ascii=False) or "\\" in text
    assert len(set(found)) == len(found)


def test_every_text_matches_its_expression(predictor):
    constraint = Constraint.of_regex(REGEX)
    for text in [*texts(predictor, constraint), *texts(predictor, constraint, temperature=0)]:
        assert re.fullmatch(REGEX.replace(r"\u{e9}", "é"), text), text


@pytest.mark.parametrize("as_list", [False, True])
def test_every_text_is_a_tool_call(predictor, as_list):
    as_openai = [{"type": "function", "function": {"name": n, "parameters": s}} for n, s in TOOLS.items()]
    names = set()
    for text in texts(predictor, Constraint.of_tools(as_openai if as_list else TOOLS)):
        name, given = text.removeprefix(" ").split(" ", 1)
        names.add(name)
        value = json.loads(given)
        call = ToolUse(meta=Meta(session="s"), name=name, input=value)
        assert render(call) == f"Tool call:{text}\n\n"
        assert value == {} if name == "Stop" else re.fullmatch("[a-z ]{1,12}", value["command"])
    assert names == set(TOOLS)


def test_probabilities_of_allowed_tokens_keep_their_ratios(predictor):
    generation = predictor.generate("to do", constraint=Constraint.of_regex("[abc]x*"))
    row = generation.reader.log_probs()
    found = generation._sampler.distribution(row, generation._allowed.mask())
    ids = predictor.loaded.tokenizer.encode("abc")
    assert sorted(ids) == np.flatnonzero(np.isfinite(found)).tolist()
    expected = row[ids] - np.log(np.exp(row[ids]).sum())
    np.testing.assert_allclose(found[ids], expected, atol=1e-12)


def test_where_a_text_may_end_the_model_decides(predictor):
    ended, constraint = set(), Constraint.of_regex("a{2,9}")
    end, (letter,) = predictor.loaded.tokenizer.eot_id, predictor.loaded.tokenizer.encode("a")
    reader = predictor.read()
    reader.advance(predictor.loaded.tokenizer.encode("to doaa"))
    row = reader.log_probs()
    even = ((end, float(row[letter] - row[end])),)  # both are equally likely after "aa"
    for seed in SEEDS:
        sampling = SamplingConfig(seed=seed, logit_bias=even)
        generation = predictor.generate("to do", sampling, max_tokens=30, constraint=constraint)
        text = "".join(generation)
        assert re.fullmatch("a{2,9}", text) and generation.finish_reason == "end"
        assert (generation.ids[-1] == end) == (len(text) < 9)
        ended.add(len(text))
    assert len(ended) > 1


def test_a_text_that_is_cut_off_says_so(predictor):
    generation = predictor.generate("to do", max_tokens=5, constraint=Constraint.of_schema(SCHEMA))
    assert "".join(generation) == '{"nam' and generation.finish_reason == "length"
    empty = predictor.generate("to do", constraint=Constraint.of_regex(""))
    assert list(empty) == [] and empty.finish_reason == "end"


class Counted:
    """A reader that counts how often it is asked."""

    def __init__(self, reader):
        self.reader, self.asked, self.read = reader, 0, 0

    def expected(self):
        self.asked += 1
        return self.reader.expected()

    def advance(self, ids):
        self.read += len(ids)
        self.reader.advance(ids)


def test_the_reader_is_not_asked_where_there_is_no_choice(predictor):
    reader = Counted(predictor.read())
    constraint = Constraint.of_regex("(one|two) three")
    generation = Generation(reader, predictor.tokens, ends=(0,), constraint=constraint)
    assert "".join(generation) in ("one three", "two three")
    assert reader.asked == 1


def test_snapshots_and_batches_give_the_same_text(predictor):
    constraint, expected = Constraint.of_schema(SCHEMA), []
    for stream in range(3):
        expected.append("".join(predictor.generate("to do", constraint=constraint, stream=stream)))
    starts = [predictor.generate("to do", constraint=constraint, stream=stream) for stream in range(3)]
    while any(generation.finish_reason is None for generation in starts):
        step_all(starts, predictor.batch)
    assert [generation.text for generation in starts] == expected
    first = predictor.generate("to do", constraint=constraint)
    for _ in range(5):
        next(first)
    again = predictor.generate("", constraint=constraint)
    again.load_state_dict(first.state_dict())
    assert again.text == first.text and first.text + "".join(again) == expected[0]
    other = predictor.generate("", constraint=Constraint.of_regex("a"))
    with pytest.raises(UsageError, match="with constraint"):
        other.load_state_dict(first.state_dict())


def test_dead_ends_are_reported():
    class Uniform:
        def expected(self):
            return np.log(np.full(3, 1 / 3))

        def advance(self, ids):
            pass

    generation = Generation(
        Uniform(), [b"", b"a", b"b"], ends=(0,), constraint=Constraint.of_regex("a{3}[bc]?c")
    )
    with pytest.raises(UsageError, match=r"can follow 'aaab?' under --regex"):
        list(generation)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constraint.of_regex("(("), "--regex cannot be used: unclosed group"),
        (lambda: Constraint.of_schema("{"), "--json-schema is not JSON"),
        (lambda: Constraint.of_schema("[1]"), "must be an object, not list"),
        (lambda: Constraint.of_schema({"type": "nope"}), "--json-schema cannot be used: .*nope"),
        (lambda: Constraint.of_schema({"not": {"type": "string"}}), r"Unimplemented keys: \[\"not\"\]"),
        (lambda: Constraint.of_tools({}), "names no tool"),
        (lambda: Constraint.of_tools([{"name": "Bash"}]), "has a 'name'"),
        (lambda: Constraint.of_tools({"Bash": True}), "an object as the schema of tool 'Bash'"),
        (lambda: Constraint.of_tools({"Bash": {"type": "nope"}}), "--tools cannot be used"),
    ],
)
def test_what_cannot_be_enforced_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
