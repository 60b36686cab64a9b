"""Examples for tuning: what a line becomes, what is learned of it, and in which order they are read."""

import json

import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.tune import TuneConfig, read_examples, split_examples
from sttx_train.tune.examples import fingerprint, parts_of
from sttx_train.tune.order import epoch_order, steps_of_epoch

TOKENIZER = ByteTokenizer()


@pytest.fixture
def read(tmp_path):
    """Return a function from lines to the examples that they are."""

    def examples(*lines, **options):
        path = tmp_path / "data.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return read_examples(path, TOKENIZER, TuneConfig(**options))

    return examples


def texts(example):
    """Return all text of an example, and what is learned of it."""
    learned = [token for token, paid in zip(example.ids, example.paid, strict=True) if paid]
    return TOKENIZER.decode(example.ids), TOKENIZER.decode(learned)


class TestLines:
    def test_a_pair(self, read):
        example = read({"prompt": "2+2?", "completion": "4", "id": 7}).examples[0]
        assert texts(example) == ("User: 2+2?\n\nAssistant: 4\n\n", " 4\n\n")
        assert (example.context, example.bytes) == (TOKENIZER.eot_id, 4)

    def test_a_chat(self, read):
        call = {"function": {"name": "ls", "arguments": '{"path": "."}'}}
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What\n\nis here?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "name": "ls", "content": "a.txt"},
            {"role": "assistant", "content": "One file."},
        ]
        text, learned = texts(read({"messages": messages}).examples[0])
        assert text == (
            "System: Be brief.\n\nUser: What\nis here?\n\nAssistant: I look.\n\n"
            'Tool call: ls {"path":"."}\n\nTool result: ls\na.txt\n\nAssistant: One file.\n\n'
        )
        assert learned == ' I look.\n\nTool call: ls {"path":"."}\n\n One file.\n\n'

    def test_a_text_is_learned_whole(self, read):
        assert texts(read({"text": "Once.\r\n"}).examples[0]) == ("Once.\n", "Once.\n")

    def test_all_can_be_learned(self, read):
        assert texts(read({"prompt": "a", "completion": "b"}, loss="all").examples[0])[1].startswith(
            "User: a"
        )

    def test_without_the_end_of_text_the_first_token_is_only_read(self, read):
        example = read({"text": "abc"}, eot=False).examples[0]
        assert (TOKENIZER.decode([example.context]), texts(example), example.bytes) == ("a", ("bc", "bc"), 2)

    def test_longer_ones_are_cut_and_counted(self, read):
        found = read({"text": "abcdef"}, {"prompt": "a long question", "completion": "b"}, ctx=4)
        assert [texts(example)[0] for example in found.examples] == ["abc"]
        assert (found.cut, found.empty) == (1, 1)

    def test_what_is_no_example_is_named(self, read, tmp_path):
        wrong = ["{", "[]", {"prompt": "a"}, {"messages": [{"role": "robot", "content": "x"}]}, "3", "\\xff"]
        odd_call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
        found = read({"text": "a"}, "", *wrong, {"messages": [odd_call]})
        assert (len(found.examples), found.left_out, found.damaged) == (1, 7, (3, 4, 5, 6, 7, 8, 9))
        assert "7 lines left out" in found.notes(tmp_path)[0]
        with pytest.raises(DataError, match="line 1 is the first that holds none"):
            read("nothing")
        with pytest.raises(UsageError, match="is not a file"):
            read_examples(tmp_path, TOKENIZER, TuneConfig())

    def test_turns_are_as_in_sessions(self):
        parts = parts_of(
            {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
        )
        pair = parts_of({"prompt": "2+2?", "completion": "4"})
        joined = [
            ("".join(p.text for p in some), "".join(p.text for p in some if p.paid)) for some in (parts, pair)
        ]
        assert joined[0] == joined[1]


class TestOrder:
    def test_every_example_is_there_once_in_every_epoch_and_order_differs(self):
        lengths = [3 + index % 17 for index in range(100)]
        epochs = [epoch_order(lengths, 8, seed=1, epoch=epoch) for epoch in range(2)]
        for steps in epochs:
            assert sorted(index for step in steps for index in step) == list(range(100))
            assert len(steps) == steps_of_epoch(100, 8)
        assert epochs[0] != epochs[1]
        assert epochs[0] == epoch_order(lengths, 8, seed=1, epoch=0)
        assert epochs[0] != epoch_order(lengths, 8, seed=2, epoch=0)

    def test_a_share_is_drawn_by_the_seed(self, read):
        examples = read(*({"text": f"number {index}"} for index in range(10))).examples
        train, measured = split_examples(examples, 0.2, seed=0)
        assert (len(train), len(measured)) == (8, 2)
        assert set(train) | set(measured) == set(examples)
        assert split_examples(examples, 0.2, seed=0) == (train, measured)
        assert split_examples(examples, 0.0, seed=0) == (examples, ())
        assert fingerprint(train) != fingerprint(examples)
        with pytest.raises(UsageError, match="leaves none of 1 examples"):
            split_examples(examples[:1], 0.5, seed=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": 0.0}, "--lr must be above 0"),
        ({"epochs": 0}, "--epochs must be a whole number of 1"),
        ({"ctx": 1}, "--ctx must be a whole number of 2"),
        ({"final": 1.5}, "--final must be a share"),
        ({"schedule": "wsd"}, "--schedule must be one of cosine, linear, constant"),
        ({"patience": -1}, "--patience must be"),
    ],
)
def test_impossible_options_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        TuneConfig(**options)
