"""Guesses at the next tool call: what a search found, mixed with what usually follows, in order.

All probabilities are given that the next trace of the document is a tool call; how probable that is, is a
number of its own. Knows counts and what was found; no model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sttx_train.suggest.blend import NEW, Blend
from sttx_train.suggest.call_habits import CallHabits
from sttx_train.suggest.calls import LENGTHS, begin

PREDICTOR = "predictor"
"""The way of a blend that is the predictor; the others are those of `Habits`."""

TOOL_WEIGHTS = {
    PREDICTOR: 0.5,
    "session": 0.05,
    "all": 0.1,
    "session after": 0.1,
    "all after": 0.1,
    "recency": 0.15,
    NEW: 0.03,
}
COMMAND_WEIGHTS = {
    PREDICTOR: 0.2,
    "session": 0.15,
    "all": 0.15,
    "session after": 0.05,
    "all after": 0.3,
    "recency": 0.15,
    NEW: 0.33,
}
"""Weights of the ways, near those that are best for public sessions; see docs/log.md."""

_MOST = 200
"""Commands of which beginnings are compared."""

WHOLE = 0
"""Stands for all words of a command, among lengths in words."""


@dataclass(kw_only=True)
class Found:
    """Probabilities that the search found, each a lower bound.

    Attributes:
        call: that the next trace is a tool call with a name.
        names: that it is a call of this tool.
        texts: that it is a call of a shell tool whose command begins with these words: (words, text), where
            `WHOLE` words is the whole command.
        left: that it is a call whose name the search did not follow to its end.
        asked: number of branches that were asked.
    """

    call: float = 0.0
    names: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    texts: defaultdict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))
    left: float = 0.0
    asked: int = 0


_SAYS_MORE = 2 / 3
"""A longer beginning with so much of a shorter one's probability stands for both."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A shell command that may come next.

    Attributes:
        text: its first one, two or four words, or all of it.
        p: its probability.
        whole: whether the command is this text; else it begins with these words.
    """

    text: str
    p: float
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What may come next, the likeliest first. All probabilities but ``call`` are given a call.

    Attributes:
        call: probability that the next trace is a tool call, as far as the search found; None if nothing was
            searched.
        tools: names and their probabilities.
        commands: shell commands; a shorter beginning is left out where a longer one is nearly as probable.
        left: probability that it is a call of a tool whose name the search did not find.
        asked: places that the predictor was asked about.
    """

    call: float | None
    tools: tuple[tuple[str, float], ...]
    commands: tuple[Command, ...]
    left: float = 0.0
    asked: int = 0

    def sure(self, least: float, top: int) -> Suggestions:
        """Return the likeliest ones, at most ``top`` of each kind, that have at least a probability."""
        tools = tuple(each for each in self.tools if each[1] >= least)[:top]
        commands = tuple(each for each in self.commands if each.p >= least)[:top]
        return replace(self, tools=tools, commands=commands)


def suggest_by_habits(habits: CallHabits, document: str) -> Suggestions:
    """Return what the next tool call of a document may be, by what usually follows, without any model."""
    return replace(guesses(Found(), habits, document), call=None)


def guesses(
    found: Found,
    habits: CallHabits,
    document: str,
    *,
    tools: Mapping[str, float] = TOOL_WEIGHTS,
    commands: Mapping[str, float] = COMMAND_WEIGHTS,
) -> Suggestions:
    """Return what was found, mixed with habits, in order.

    Args:
        found: by the predictor.
        habits: the calls so far.
        document: whose next call it is.
        tools: weight of each way for tools: `PREDICTOR`, those of `Habits`, and `NEW`.
        commands: the same for commands.
    """
    names = Blend(tools).mix({PREDICTOR: names_given_call(found), **habits.next_tools(document)})
    shell = sum(p for name, p in names.items() if name in habits.openings)
    texts = next_texts(found, habits, document)
    mixed = {length: Blend(commands).mix(said) for length, said in texts.items()}
    return Suggestions(
        call=found.call,
        tools=tuple(sorted(names.items(), key=lambda each: (-each[1], each[0]))),
        commands=_ranked(mixed, shell),
        left=found.left / found.call if found.call else 0.0,
        asked=found.asked,
    )


def names_given_call(found: Found) -> dict[str, float]:
    """Return what the predictor says of the next tool, given that the next trace is a call."""
    return {name: p / found.call for name, p in found.names.items()}


def next_texts(found: Found, habits: CallHabits, document: str) -> dict[int, dict[str, dict[str, float]]]:
    """Return what each way says of the next command, given that there is one.

    Returns:
        For each of `LENGTHS` and `WHOLE`, for each way, the probability of each text.
    """
    shell = sum(p for name, p in found.names.items() if name in habits.openings)
    ways, result = habits.next_commands(document), {}
    for length in (*LENGTHS, WHOLE):
        texts = {text: p / shell for (words, text), p in found.texts.items() if words == length}
        said = {PREDICTOR: texts}
        for way, commands in ways.items():
            sums: defaultdict[str, float] = defaultdict(float)
            for command, p in commands.items():
                sums[begin(command, length) if length else command] += p
            said[way] = dict(sums)
        result[length] = said
    return result


def _ranked(mixed: Mapping[int, Mapping[str, float]], shell: float) -> tuple[Command, ...]:
    """Return the commands by probability, without beginnings of which a longer one says more."""
    every = [
        Command(text=text, p=shell * p, whole=length == WHOLE)
        for length, texts in mixed.items()
        for text, p in texts.items()
        if length == WHOLE or len(text.split()) == length  # with fewer words it is the whole command
    ]
    every = sorted(every, key=lambda each: (-each.p, each.text))[:_MOST]
    kept = [one for one in every if not any(_says_more(other, one) for other in every)]
    return tuple(kept)


def _says_more(longer: Command, one: Command) -> bool:
    if one.whole or longer.p < _SAYS_MORE * one.p:
        return False
    words = one.text.split()
    more = longer.text.split()
    return more[: len(words)] == words and (longer.whole or len(more) > len(words))
