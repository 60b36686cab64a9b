"""Conversations: what the reader reads is the render convention, and only what a person says is learned."""

import itertools

import pytest
import torch

from sttx_core.errors import UsageError
from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, UserMessage
from sttx_train import LearnerConfig, Predictor, SamplingConfig
from sttx_train.generate import Conversation, Generation

GREEDY = SamplingConfig(temperature=0)
BYTES = [bytes([byte]) for byte in range(256)]


class Scripted:
    """A reader that says bytes of its own after each `Assistant:`; notes what it read and learned."""

    def __init__(self, answers):
        self.answers, self.data, self.learned, self.finished = iter(answers), b"", b"", False

    def advance(self, ids):
        self.data += bytes(token - 1 for token in ids)

    def learn(self, ids):
        self.learned += bytes(token - 1 for token in ids)
        self.advance(ids)
        return "price"

    def finish(self):
        self.finished = True

    def expected(self):
        row = torch.full((257,), -50.0, dtype=torch.float64)
        row[next(self.script)] = 0.0
        return row.numpy()

    def generate(self, sampling=None, **options):
        self.script = iter([byte + 1 for byte in next(self.answers)] + [0])
        return Generation(self, [b"", *BYTES], ends=(0,), sampling=GREEDY, **options)


def conversation(*answers, **options):
    """Return a conversation whose model answers so; the list holds its readers."""
    readers, tokenizer, left = [], ByteTokenizer(), iter(answers)
    assert tokenizer.encode("A") == [ord("A") + 1] and tokenizer.eot_id == 0

    def start():
        readers.append(Scripted(left))
        return readers[-1]

    return Conversation(start, tokenizer, **options), readers


def talk(chat, text):
    chat.say(text)
    return "".join(chat.answer())


@pytest.mark.parametrize(
    ("answer", "options", "shown"),
    [
        (b" Hello.\n\nUser: forged", {}, " Hello."),  # the model ends its turn, in the same breath or not
        (b" Hello.", {}, " Hello."),  # it ends the document
        (b" Hello.\n", {}, " Hello.\n"),  # half of the turn's end is there
        (b" Hello. And so on", {"max_tokens": 7}, " Hello."),
        (b" Hello.", {"stop": ["lo"]}, " Hel"),
        (b"", {}, ""),
    ],
)
def test_what_was_read_is_the_render_convention(answer, options, shown):
    chat, [reader] = conversation(answer, **options)
    assert talk(chat, "Hi,\n\n\nthere ") == shown
    [said, *answers] = chat.traces
    assert isinstance(said, UserMessage) and all(isinstance(one, AssistantMessage) for one in answers)
    assert [one.text for one in answers] == ([shown.strip()] if shown.strip() else [])
    if "stop" in options:
        assert reader.data == b"User: Hi,\nthere\n\nAssistant: Hello\n\n", "the stop was read, and not shown"
    elif answers:
        assert reader.data.decode() == "".join(map(render, chat.traces))
    else:
        assert reader.data == b"User: Hi,\nthere\n\nAssistant:\n\n"


def test_history_goes_on_and_reset_forgets_it():
    chat, readers = conversation(b" One.", b" Two.", b" Three.", name="talk")
    assert [talk(chat, "first"), talk(chat, "second")] == [" One.", " Two."]
    assert readers[0].data.decode() == "".join(map(render, chat.traces))
    assert [trace.meta.uid for trace in chat.traces] == [f"talk-{number}" for number in range(4)]
    chat.reset()
    assert chat.traces == [] and talk(chat, "third") == " Three."
    assert readers[1].data == b"User: third\n\nAssistant: Three.\n\n"


def test_a_stopped_answer_ends_its_turn():
    chat, [reader] = conversation(b" A long answer.", b" Yes.")
    chat.say("go on")
    answer = chat.answer()
    assert "".join(itertools.islice(answer, 7)) == " A long"
    answer.close()
    assert chat.traces[-1].text == "A long"
    assert reader.data == b"User: go on\n\nAssistant: A long\n\n"
    assert talk(chat, "and?") == " Yes."


def test_only_what_a_person_says_is_learned():
    chat, [reader] = conversation(b" Yes.", learns=True)
    assert chat.say("Is it?") == "price"
    list(chat.answer())
    assert reader.learned == b"User: Is it?\n\n" and not reader.finished


def test_a_reset_learns_the_last_window_and_only_if_it_learns():
    for learns in (True, False):
        chat, readers = conversation(b" Yes.", learns=learns)
        chat.say("Is it?")
        chat.reset()
        assert [reader.finished for reader in readers] == [learns, False]
    with pytest.raises(UsageError, match="nothing was said"):
        chat.say(" \n ")


def test_a_predictor_learns_in_a_conversation_and_answers_change(tiny):
    predictor = Predictor(tiny(), experts=False, learning=LearnerConfig(phrases="off"), window=16)
    options = {"max_tokens": 20, "learns": True}
    chat = Conversation(predictor.read, predictor.loaded.tokenizer, **options)
    said = chat.say("the test that failed now passes again")
    assert len(said.bits) == len("User: the test that failed now passes again\n\n") and predictor.updates == 2
    first = "".join(chat.answer())
    assert predictor.updates > 2, "a window that an answer completes has tokens to learn from"
    s0 = predictor.learner.s0.clone()
    assert s0.abs().sum() > 0 and first
    chat.say("and now?")
    assert not torch.equal(predictor.learner.s0, s0)
