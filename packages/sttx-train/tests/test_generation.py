"""Generated text: what a reader says and nothing else, stops, seeds, and snapshots taken anywhere."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sttx_core.errors import CheckpointError, UsageError
from sttx_train import LearnerConfig, Predictor, SamplingConfig
from sttx_train.formats import load_model, save_model
from sttx_train.generate import Generation, step_all

PROMPT = "User: read the file again and again\n\nAssistant:"
GREEDY = SamplingConfig(temperature=0)
GREEDY_TOKENS = 6


class Scripted:
    """A reader that wants each token of a script in turn."""

    def __init__(self, script, vocab_size):
        self.script, self.vocab_size, self.read = script, vocab_size, []

    def expected(self):
        row = np.full(self.vocab_size, -20.0)
        row[self.script[len(self.read)]] = 0.0
        return row

    def advance(self, ids):
        assert len(ids) == 1
        self.read += ids


def scripted(words, **options):
    """Return a generation that would write these words; an empty one is the end of the text."""
    tokens = [b"", *sorted({word for word in words if word})]
    script = [tokens.index(word) for word in words]
    reader = Scripted(script, len(tokens))
    return Generation(reader, tokens, ends=(0,), sampling=GREEDY, **options), reader


def test_greedy_text_is_what_the_reader_says(tiny):
    predictor = Predictor(tiny(), experts=False)
    generation = predictor.generate(PROMPT, GREEDY, max_tokens=9)
    pieces = list(generation)
    reader = predictor.read()
    reader.advance(encoded(predictor))
    expected = []
    for _ in range(9):
        row = reader.log_probs()
        row[[not data and token != 0 for token, data in enumerate(predictor.tokens)]] = -np.inf
        expected.append(int(row.argmax()))
        reader.advance(expected[-1:])
    assert generation.ids == expected[: len(generation.ids)]
    assert generation.text == "".join(pieces) and all(pieces)
    assert (generation.finish_reason, len(generation.ids)) == ("length", 9)


def encoded(predictor):
    return predictor.loaded.tokenizer.encode(PROMPT)


def test_finish_reasons_and_what_is_unread():
    length, _ = scripted([b"one", b" two", b" thr", b"ee"], max_tokens=3)
    assert list(length) == ["one", " two", " thr"]
    assert (length.finish_reason, length.unread, length.data) == ("length", b" thr", b"one two thr")
    end, _ = scripted([b"one", b" E", b""], stop=["END"])
    assert list(end) == ["one", " ", "E"], "the withheld start of a stop belongs to the text if it ends there"
    assert (end.finish_reason, end.unread, end.ids[-1]) == ("end", b"", 0)
    stop, reader = scripted([b"one", b" E", b"ND and more"], stop=["xyz", "END"])
    assert list(stop) == ["one", " "]
    assert (stop.finish_reason, stop.unread, stop.data) == ("stop", b"ND", b"one END")
    assert len(reader.read) == 2, "the last token is not read"
    last, _ = scripted([b"one", b"END"], stop=["END"], max_tokens=2)
    assert list(last) == ["one"] and last.finish_reason == "stop"
    none, _ = scripted([b"one"], max_tokens=0)
    assert (list(none), none.finish_reason) == ([], "length")


def test_whole_characters_only():
    generation, _ = scripted([b"caf\xc3", b"\xa9", b" \xf0\x9f", b"\xa6\xa9", b"\xe2\x82"], max_tokens=5)
    assert list(generation) == ["caf", "é", " ", "\U0001f9a9"]
    assert generation.text == "café \U0001f9a9"


def test_the_same_seed_gives_the_same_text(tiny):
    predictor = Predictor(tiny(), experts=False)

    def text(seed, stream=0):
        sampling = SamplingConfig(seed=seed, temperature=1.2)
        return "".join(predictor.generate(PROMPT, sampling, max_tokens=20, stream=stream))

    assert text(1) == text(1)
    assert len({text(1), text(2), text(1, stream=1)}) == 3


SAMPLING = SamplingConfig(
    seed=7, top_p=0.95, frequency_penalty=0.3, penalty_decay=0.9, repetition_penalty=1.1
)


@pytest.mark.parametrize("experts", [False, True])
def test_a_snapshot_anywhere_continues_the_same_text(tiny, experts):
    options = {"max_tokens": 12, "stop": ["\n\n", "qqq"]}
    learning = LearnerConfig(phrases="off", frozen=False)
    predictor = Predictor(tiny(), experts=experts, learning=learning, window=16)
    with torch.no_grad():
        predictor.learner.s0.normal_(generator=torch.Generator().manual_seed(1))
    whole = predictor.generate(PROMPT, SAMPLING, **options)
    expected = list(whole)
    for pieces in (0, 5):
        first = predictor.generate(PROMPT, SAMPLING, **options)
        before = list(itertools.islice(first, pieces))
        state = first.state_dict()
        state = {"tensors": {n: t.clone() for n, t in state["tensors"].items()}, "meta": state["meta"]}
        state["meta"] = json.loads(json.dumps(state["meta"]))
        list(first)  # going on changes nothing in the snapshot
        other = predictor.generate("", SAMPLING, **options)
        other.load_state_dict(state)
        assert other.text == "".join(before)
        assert before + list(other) == expected
        assert (other.ids, other.finish_reason) == (whole.ids, whole.finish_reason)
    done = predictor.generate("", SAMPLING, **options)
    done.load_state_dict(whole.state_dict())
    assert list(done) == [] and done.text == whole.text


def test_snapshots_that_do_not_fit_are_refused(tiny):
    predictor = Predictor(tiny(), experts=False)
    generation = predictor.generate(PROMPT, GREEDY, max_tokens=4)
    next(generation)
    state = generation.state_dict()
    with pytest.raises(UsageError, match="was generated with max_tokens 4, not 5"):
        predictor.generate("", GREEDY, max_tokens=5).load_state_dict(state)
    again = predictor.generate("", GREEDY, max_tokens=4)
    for broken in (
        {"ids": [1, 2, 3], "read": 0},
        {"ids": [999], "read": 0},
        {"ids": [1, 2, 3, 4, 5], "read": 5},
        {"ids": "x"},
        {"extra": 1},
    ):
        with pytest.raises(CheckpointError, match="the saved generated text does not fit"):
            again.load_state_dict(state | {"meta": state["meta"] | broken})
    with pytest.raises(CheckpointError, match="'other' belongs to nothing"):
        again.load_state_dict(state | {"tensors": state["tensors"] | {"other": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match="other experts"):
        Predictor(tiny()).generate("", GREEDY, max_tokens=4).load_state_dict(state)


def test_generating_changes_nothing_unless_experts_are_to_remember(tiny):
    predictor = Predictor(tiny(), learning=LearnerConfig(phrases="off"), window=8)
    reader = predictor.read("taught")
    reader.learn(encoded(predictor))
    memory = predictor.learner.mixture.experts.state_dict()
    s0, updates = predictor.learner.s0.clone(), predictor.updates
    before = reader.log_probs()
    text = "".join(predictor.generate(PROMPT, max_tokens=20))
    after = predictor.learner.mixture.experts.state_dict()
    assert all(np.array_equal(array, after[name]) for name, array in memory.items())
    assert torch.equal(predictor.learner.s0, s0) and predictor.updates == updates and predictor.learns
    assert np.array_equal(reader.log_probs(), before)
    assert "".join(predictor.generate(PROMPT, max_tokens=20)) == text
    list(predictor.generate(PROMPT, max_tokens=20, remember=True))
    assert predictor.learner.mixture.experts.tokens_read > int(memory["tokens"][0])
    assert torch.equal(predictor.learner.s0, s0)


def test_what_was_learned_decides_what_is_generated(tiny):
    predictor = Predictor(tiny(), experts=False, learning=LearnerConfig(phrases="off"))
    plain = "".join(predictor.generate("a", max_tokens=8))
    with torch.no_grad():
        predictor.learner.s0.normal_(generator=torch.Generator().manual_seed(1))
    assert "".join(predictor.generate("a", max_tokens=8)) != plain


def test_many_texts_together_are_the_texts_alone(tiny):
    predictor = Predictor(tiny(), experts=False)
    prompts = ["User: one", "a longer prompt than the other ones", "x"]
    lengths = (3, 9, 6)

    def start():
        return [
            predictor.generate(prompt, GREEDY, max_tokens=most)
            for prompt, most in zip(prompts, lengths, strict=True)
        ]

    alone, together = start(), start()
    expected = ["".join(generation) for generation in alone]
    found = [""] * 3
    while any(generation.finish_reason is None for generation in together):
        for row, piece in enumerate(step_all(together, predictor.batch)):
            found[row] += piece
    assert found == expected == [generation.text for generation in together]
    assert [len(generation.ids) for generation in together] == list(lengths)
    assert step_all(together, predictor.batch) == ["", "", ""]


def greedy_ids(path, kernel):
    """Return the greedy tokens of a model by a kernel; `fla` is set past the check for a CUDA device."""
    loaded = load_model(path, dtype=torch.float32, kernel="chunked" if kernel == "fla" else kernel)
    if kernel == "fla":
        loaded.model.backend = "fla"
    predictor = Predictor(loaded, experts=False)
    generation = predictor.generate("User: hi\n", GREEDY, max_tokens=GREEDY_TOKENS)
    list(generation)
    return generation.ids


@pytest.fixture
def tiny_path(make_model, tmp_path):
    from sttx_core.tokenizers import ByteTokenizer

    sizes = {"vocab_size": 257, "hidden_size": 32, "num_layers": 1, "head_size": 16}
    save_model(make_model(3, **sizes), tmp_path / "model", tokenizer=ByteTokenizer())
    return tmp_path / "model"


@pytest.mark.parametrize("kernel", ["chunked", "compiled"])
def test_all_kernels_write_the_same_greedy_text(tiny_path, kernel):
    ids = greedy_ids(tiny_path, "recurrent")
    assert len(set(ids)) > 1 and ids == greedy_ids(tiny_path, kernel)


@pytest.mark.slow
def test_the_interpreted_fla_kernel_writes_the_same_greedy_text(tiny_path):
    pytest.importorskip("triton", reason="Triton is not on this platform")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tiny_path)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == greedy_ids(tiny_path, "recurrent")


if __name__ == "__main__":
    from sttx_train.rwkv7 import language_model
    from sttx_train.wkv import dispatch
    from sttx_train.wkv.backends import KernelChoice

    spec = importlib.util.spec_from_file_location("of_fla", Path(__file__).with_name("test_fla.py"))
    of_fla = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_fla)
    of_fla.prepare_interpreter()
    for module in (dispatch, language_model):
        module.choose_backend = lambda device, requested, **_: KernelChoice(requested, "interpreted")
    sys.stdout.write(json.dumps(greedy_ids(sys.argv[1], "fla")))
