"""What the engine is asked for, and the events that it answers with. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from sttx_train.generate import Constraint, Finish, SamplingConfig
from sttx_train.predict import Prices
from sttx_train.serve.catalog import Served
from sttx_train.serve.slots import SlotName
from sttx_train.serve.tokens import Token


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to read and to generate.

    Attributes:
        served: the model.
        ids: the prompt.
        options: texts of which one is chosen and read after the prompt, by their probabilities; none for a
            prompt that is complete.
        forms: what the text must be, for each option, or the only one; None for anything. None at all without
            a constraint.
        sampling: how tokens are chosen.
        max_tokens: most tokens to generate; 0 to only read.
        stop: texts that end the text.
        stream: number of the text, among those with the same seed.
        top: how many likeliest tokens to show at each generated one; None for no log-probabilities.
        echo: show the prompt's tokens as well.
        prices: return what the prompt costs.
        slot: where the state at the end is kept.
    """

    served: Served
    ids: tuple[int, ...]
    options: tuple[tuple[int, ...], ...] = ()
    forms: tuple[Constraint | None, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    stream: int = 0
    top: int | None = None
    echo: bool = False
    prices: bool = False
    slot: SlotName | None = None

    @property
    def reads_all(self) -> bool:
        """Whether every token of the prompt must be read, because the answer describes it."""
        return self.prices or (self.echo and self.top is not None)


@dataclass(frozen=True, kw_only=True)
class PromptRead:
    """The prompt was read.

    Attributes:
        cached: how many of its tokens were known from before.
        tokens: all of its tokens, if they are wanted; the first one without a log-probability.
        prices: what they cost, if that is wanted.
        chosen: index of the option that was chosen; None without options.
        chosen_tokens: tokens of that option.
    """

    cached: int
    tokens: tuple[Token, ...] = ()
    prices: Prices | None = None
    chosen: int | None = None
    chosen_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Generated:
    """A token was generated, and `text` is certain now; it may be empty."""

    text: str
    token: Token


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The text has ended.

    Attributes:
        finish: why.
        ids: the ids that were read, prompt and text.
        unread: the bytes of the text after them, up to the end of the stop, if one ended it.
        data: all bytes of the text, as far.
    """

    finish: Finish
    ids: tuple[int, ...] = ()
    unread: bytes = b""
    data: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The request failed, or was given up; nothing follows."""

    status: int
    message: str


Event: TypeAlias = PromptRead | Generated | Ended | Failed


class Job:
    """One request for one text, as the engine sees it.

    Args:
        ask: what is wanted.
        emit: is called in the engine's thread with each event; it must not wait.

    Attributes:
        cancelled: nobody wants the rest; the engine gives the row up before its next pass.
    """

    def __init__(self, ask: Ask, emit: Callable[[Event], None]) -> None:
        self.ask, self.emit = ask, emit
        self.cancelled = False
