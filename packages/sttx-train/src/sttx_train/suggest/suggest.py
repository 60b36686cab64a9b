"""The likeliest next tool calls and commands, where a reader stands. Does not know where traces come from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

from sttx_train.predict import Branch, Reader
from sttx_train.suggest.blend import Blend
from sttx_train.suggest.call_habits import CallHabits
from sttx_train.suggest.calls import HEAD, LENGTHS, begin
from sttx_train.suggest.guesses import Found, Suggestions, guesses
from sttx_train.suggest.habits import WAYS
from sttx_train.suggest.search import Vocabulary, find_calls

ASKED = 48
"""Branches that a suggestion asks; each costs about 9 ms on one core."""

_USUAL = 8
"""Tools, and commands, that the predictor is asked about because they are usual."""

_EVEN: dict[str, float] = dict.fromkeys(WAYS, 1.0)


def suggest_next(
    reader: Reader,
    habits: CallHabits | None = None,
    *,
    vocabulary: Vocabulary | None = None,
    asked: int = ASKED,
) -> Suggestions:
    """Return what the next tool call may be, at the end of a trace. Nothing is read or learned.

    Args:
        reader: stands there.
        habits: the calls so far, to mix in; None for the predictor alone.
        vocabulary: of its predictor, if many suggestions share one.
        asked: places that the predictor is asked about.
    """
    habits = habits or CallHabits()
    found = look_ahead(reader, habits, asked=asked, vocabulary=vocabulary)
    return guesses(found, habits, reader.document)


def look_ahead(
    reader: Reader, habits: CallHabits, *, asked: int = ASKED, vocabulary: Vocabulary | None = None
) -> Found:
    """Return what the predictor says of the next call: of what it finds likely, and of what is usual.

    Args:
        reader: stands at the end of a trace.
        habits: the calls so far; the predictor is asked about the likeliest of these in any case.
        asked: places that the predictor is asked about.
        vocabulary: of the predictor, if many searches share one.
    """
    vocabulary = vocabulary or Vocabulary(reader.predictor)
    usual = usual_calls(habits, reader.document)
    return find_calls(Branch(reader), vocabulary, habits.openings, most=asked, also=usual)


def usual_calls(habits: CallHabits, document: str) -> list[bytes]:
    """Return the beginnings of the calls that are likeliest by habit, as they are rendered."""
    names = Blend(_EVEN).mix(habits.next_tools(document))
    texts: defaultdict[str, float] = defaultdict(float)
    for command, p in Blend(_EVEN).mix(habits.next_commands(document)).items():
        texts[begin(command, max(LENGTHS))] += p
    tools = _likeliest(names)
    shell = next((name for name in tools if name in habits.openings), None)
    usual = [HEAD + name.encode() + b" " for name in tools]
    if shell is not None:
        before = HEAD + shell.encode() + b" " + habits.openings[shell][-1]
        usual += [before + json.dumps(text, ensure_ascii=False)[1:].encode() for text in _likeliest(texts)]
    return usual


def _likeliest(p: Mapping[str, float]) -> list[str]:
    return sorted((text for text in p if text.isprintable()), key=lambda text: -p[text])[:_USUAL]
