"""The search for the next call: its probabilities are those of the predictor, and nothing changes."""

import numpy as np
import pytest
import torch

from sttx_core.render import render
from sttx_core.tokenizers import TrieTokenizer, create_vocab_file
from sttx_core.traces import Meta, ToolUse, UserMessage
from sttx_train import Predictor, load_model
from sttx_train.formats import save_model
from sttx_train.predict import Branch
from sttx_train.suggest import COMMON, CallHabits, Vocabulary, find_calls, suggest_next
from sttx_train.suggest.guesses import WHOLE

HEAD = b"Tool call: "


def vocabulary(predictor):
    return Vocabulary(predictor)


def trace(name, value):
    return ToolUse(meta=Meta(session="s"), name=name, input=value)


@pytest.fixture
def words(make_model, tmp_path):
    """Return a predictor whose tokens overlap, so that a text can be written in many ways."""
    pieces = ["Tool call: ", "Tool", " call", ": ", "Re", "ad", "Read {", "Read", " {", '{"', "git", "git "]
    create_vocab_file(pieces, tmp_path / "vocab.txt")
    tokenizer = TrieTokenizer(tmp_path / "vocab.txt")
    model = make_model(vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, head_size=16)
    with torch.no_grad():  # every token about as probable as the others
        model.head.weight.mul_(0.1)
    save_model(model, tmp_path / "model", tokenizer=tokenizer)
    return Predictor(load_model(tmp_path / "model"), experts=False)


def by_hand(branch, tokens, wanted, text=b""):
    """Return the probability that a text begins so, over all ways to write it."""
    if len(text) >= len(wanted):
        return 1.0
    p, total = np.exp(branch.log_probs()), 0.0
    for token, piece in enumerate(tokens):
        longer = text + piece
        if piece and (wanted.startswith(longer) or longer.startswith(wanted)):
            total += p[token] * by_hand(branch.after(token), tokens, wanted, longer)
    return total


def test_probabilities_sum_over_all_ways_to_write_a_text(words):
    reader, known = words.read(), vocabulary(words)
    reader.advance(words.loaded.tokenizer.encode("User: hi\n\n"))
    found = find_calls(Branch(reader), known, COMMON, most=400, also=[b"Tool call: Read {"])
    root = Branch(reader)
    assert found.call == pytest.approx(by_hand(root, known.bytes, HEAD), rel=1e-3)
    # Branches too improbable to be followed are missing.
    exact = by_hand(root, known.bytes, b"Tool call: Read ")
    assert 0.5 * exact < found.names["Read"] <= exact * (1 + 1e-6)
    assert sum(found.names.values()) + found.left == pytest.approx(found.call, rel=1e-3)


def test_one_way_to_write_is_what_scoring_says(tiny):
    predictor = Predictor(tiny(), experts=False)
    reader = predictor.read()
    reader.advance(list(b"User: hi\n\n"))
    text = b'Tool call: Bash {"command":"ls -l"'
    found = find_calls(Branch(reader), vocabulary(predictor), COMMON, most=200, also=[text + b"}\n\n"])
    bits = reader.score(
        [byte + 1 for byte in text] if predictor.loaded.tokenizer.encode("a") != [97] else text
    )
    nats = -np.cumsum(bits.bits) * np.log(2)
    end = len(b"Tool call: Bash ") - 1
    assert np.log(found.call) == pytest.approx(nats[len(HEAD) - 1], abs=1e-3)
    assert np.log(found.names["Bash"]) >= nats[end] - 1e-3
    assert np.log(found.texts[WHOLE, "ls -l"]) == pytest.approx(nats[-1], abs=1e-3)
    assert found.texts[1, "ls"] >= found.texts[2, "ls -l"] >= found.texts[WHOLE, "ls -l"] > 0
    assert found.asked <= 200
    assert sum(found.names.values()) + found.left == pytest.approx(found.call, rel=1e-3)


def test_what_a_session_repeats_is_found_and_nothing_changes(tiny):
    predictor, habits = Predictor(tiny()), CallHabits()
    reader, encode = predictor.read("s"), predictor.loaded.tokenizer.encode
    for _ in range(8):
        for one in (
            UserMessage(meta=Meta(session="s"), text="Is it clean?"),
            trace("Bash", {"command": "git status --short", "timeout": 1}),
        ):
            reader.advance(encode(render(one)))
            habits.add(one)
    reader.advance(encode("User: Is it clean?\n\n"))
    memory, prices = predictor.learner.mixture.experts.state_dict(), reader.score(encode("Tool")).bits
    found = find_calls(Branch(reader), vocabulary(predictor), habits.openings, most=120)
    assert found.call > 0.5 and found.names["Bash"] > 0.9 * found.call
    assert found.texts[2, "git status"] > 0.5 * found.call
    assert found.texts[WHOLE, "git status --short"] > 0.3 * found.call
    said = suggest_next(reader, habits, asked=120)
    assert said.tools[0][0] == "Bash" and said.commands[0].text == "git status --short"
    alone = suggest_next(reader, asked=120)
    assert [name for name, _ in alone.tools][0] == "Bash"
    after = predictor.learner.mixture.experts.state_dict()
    assert all(np.array_equal(array, after[name]) for name, array in memory.items())
    assert np.array_equal(reader.score(encode("Tool")).bits, prices)


def test_where_no_call_is_found_habits_say_it_all(tiny):
    predictor, habits = Predictor(tiny(), experts=False), CallHabits()
    habits.add(trace("Bash", {"command": "ls"}))
    reader = predictor.read("s")
    said = suggest_next(reader, habits, asked=2)
    assert (said.call, said.asked) == (0.0, 2)
    [(name, p)], commands = said.tools, [each.text for each in said.commands]
    assert name == "Bash" and 0.8 < p < 1 and commands == ["ls"]
    nothing = suggest_next(reader, asked=2)
    assert nothing.tools == () and nothing.commands == ()
