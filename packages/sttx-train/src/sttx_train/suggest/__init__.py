"""The likeliest next tool calls and shell commands of a session, with their probabilities."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names
from sttx_train.suggest.blend import NEW, Blend
from sttx_train.suggest.call_habits import CallHabits
from sttx_train.suggest.calls import COMMON, LENGTHS, ShellCommand, begin, shell_command
from sttx_train.suggest.guesses import (
    COMMAND_WEIGHTS,
    PREDICTOR,
    TOOL_WEIGHTS,
    WHOLE,
    Command,
    Found,
    Suggestions,
    next_texts,
    suggest_by_habits,
)
from sttx_train.suggest.habits import WAYS, Habits

if TYPE_CHECKING:
    from sttx_train.suggest.search import Vocabulary, find_calls
    from sttx_train.suggest.suggest import look_ahead, suggest_next

__all__ = [
    "Blend",
    "COMMAND_WEIGHTS",
    "COMMON",
    "CallHabits",
    "Command",
    "Found",
    "Habits",
    "LENGTHS",
    "NEW",
    "PREDICTOR",
    "ShellCommand",
    "Suggestions",
    "TOOL_WEIGHTS",
    "Vocabulary",
    "WAYS",
    "WHOLE",
    "begin",
    "find_calls",
    "look_ahead",
    "next_texts",
    "shell_command",
    "suggest_by_habits",
    "suggest_next",
]

__getattr__ = lazy_names(
    __name__,
    {"search": ["Vocabulary", "find_calls"], "suggest": ["look_ahead", "suggest_next"]},
)
