"""The loop alarm: says when the rounds of an agent bring nothing new, while they go on.

A round that repeats what its session's memory holds costs far less than the network alone would pay: memory
halves its price, perhaps many times. In work it saves about the same from round to round. The alarm adds up
what rounds save beyond that (a CUSUM, Page 1954), so that a few cheap rounds, as when a file is read again,
do not fire it. Numbers and paths that change in a loop are pure surprise and look like news, so a round with
the gist of an earlier one counts as evidence too. Calls side by side are one round here: they were chosen
together, and resemble each other. Knows prices and gists of rounds; not who computes them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

from sttx_core.errors import UsageError
from sttx_train.watch.rounds import Round, Said

MOST_AGENTS = 1024
"""Agents with an alarm; beyond it that of the least recently active one is forgotten."""


@dataclass(frozen=True, kw_only=True)
class AlarmConfig:
    """When the alarm fires. The defaults were chosen on public sessions with planted loops (docs/log.md).

    Attributes:
        threshold: level at which the alarm fires.
        drift: halvings beyond the usual that leave the level as it is.
        most: most halvings that one round adds to the level.
        again: least that a round adds whose gist one of the last ``window`` rounds had.
        window: number of rounds whose gists are kept.
        waiting: share of them that counts where the call waits for something.
        room: how far the level may rise above the threshold, so that a few rounds with news clear the alarm.
        news: bits that are added to both prices, so that the shortest rounds say little.
        kept: share of the level that a round with news leaves, before what it takes.
        usual: halvings that are usual before the first rounds, as if four rounds had saved that.
    """

    threshold: float = 7.0
    drift: float = 0.5
    most: float = 2.5
    again: float = 1.9
    window: int = 10
    waiting: float = 0.1
    room: float = 2.0
    news: float = 32.0
    kept: float = 0.8
    usual: float = 0.6

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise UsageError(f"--threshold must be above 0, not {self.threshold}")
        for name in ("most", "room", "news", "window"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")
        for name, most in (("waiting", 1), ("kept", 1), ("drift", 10), ("usual", 10), ("again", 10)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"{name} must be from 0 to {most}, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the alarm says of a round.

    Attributes:
        level: the evidence so far; it fires at the threshold.
        usual: bits per byte of the agent's rounds outside loops so far; None before the first.
        fires: whether the alarm fires at this round.
        looping: whether it has fired, and too little that is new has come since to halve the level.
        repeats: rounds since the level last was 0, this one included: the length of the loop. Calls side by
            side are one.
    """

    level: float
    usual: float | None
    fires: bool
    looping: bool
    repeats: int


_FADE = 0.95  # of the weight of earlier rounds in what is usual, each round
_PRIOR = 4.0  # rounds that what is usual before the first one counts as
_FIRST, _FIRST_MOST = 8, 1.0  # of so many rounds, evidence up to this counts as usual


@dataclass
class _Agent:
    """What is known of an agent; sums fade."""

    saved: float  # sum of halvings, of rounds without evidence
    rounds: float = _PRIOR  # their number
    number: int = 0  # of all rounds
    bits: float = 0.0  # and bytes, of rounds outside loops
    bytes: float = 0.0
    level: float = 0.0
    looping: bool = False
    repeats: int = 0
    gists: tuple[str, ...] = ()
    turn: _Turn | None = None


@dataclass
class _Turn:
    """The rounds of calls side by side, as the one round that they are together."""

    number: int
    before: _Agent  # as it was before the first of them
    seen: bool = True  # whether each had the gist of a round before the turn
    waits: bool = False  # whether any did
    bytes: int = 0
    bits: float = 0.0
    network_bits: float = 0.0

    def add(self, one: Round) -> None:
        self.seen = self.seen and bool(one.gist) and one.gist in self.before.gists
        self.waits = self.waits or one.waits
        self.bytes += one.bytes
        self.bits += one.bits
        self.network_bits += one.network_bits


class LoopAlarm:
    """The alarms of all agents of a stream."""

    def __init__(self, config: AlarmConfig | None = None) -> None:
        self.config = config or AlarmConfig()
        self._agents: OrderedDict[str, _Agent] = OrderedDict()

    def add(self, one: Round) -> Verdict:
        """Take the next round of an agent."""
        agent, turn = self._in_turn(one)
        usual = agent.bits / agent.bytes if agent.bytes else None
        saved = self.saved(turn)
        usually = agent.saved / agent.rounds
        evidence = min(saved - usually - self.config.drift, self.config.most)
        counts = max(evidence, self.config.again) if turn.seen else evidence
        self._move(agent, self.config.waiting * counts if turn.waits and counts > 0 else counts)
        agent.repeats += agent.level > 0
        fires = agent.level >= self.config.threshold and not agent.looping
        agent.looping = agent.looping or fires
        agent.number += 1
        # A loop, or polling, must not become what is usual; at first nobody knows what that is.
        if evidence <= (_FIRST_MOST if agent.number <= _FIRST else 0.0):
            agent.saved, agent.rounds = _FADE * agent.saved + saved, _FADE * agent.rounds + 1
        if not agent.level:
            agent.bits, agent.bytes = _FADE * agent.bits + turn.bits, _FADE * agent.bytes + turn.bytes
        return Verdict(
            level=agent.level, usual=usual, fires=fires, looping=agent.looping, repeats=agent.repeats
        )

    def said(self, said: Said) -> None:
        """Take a user's message: one with news takes from the level, a repeated one changes nothing."""
        agent = self._agent(said.name)
        agent.turn = None
        self._move(agent, min(self.saved(said) - agent.saved / agent.rounds - self.config.drift, 0.0))

    def saved(self, one: _Turn | Said) -> float:
        """Return how often memory halves the price of a round or message that the network alone would pay.

        >>> made = Said(name="s", bytes=400, bits=68.0, network_bits=368.0)
        >>> LoopAlarm(AlarmConfig(news=32.0)).saved(made)
        2.0
        """
        news = self.config.news
        return math.log2((one.network_bits + news) / (one.bits + news))

    def _in_turn(self, one: Round) -> tuple[_Agent, _Turn]:
        """Return the agent as it was before a round and those beside it, and what they are together."""
        agent = self._agent(one.name)
        turn = agent.turn
        if turn is None or not one.turn or turn.number != one.turn:
            turn = _Turn(one.turn, before=replace(agent, turn=None))
        turn.add(one)
        again = replace(turn.before, turn=turn, gists=(*agent.gists, one.gist)[-self.config.window :])
        again.looping |= agent.looping  # what has fired in this turn does not fire again
        self._agents[one.name] = again
        return again, turn

    def _move(self, agent: _Agent, evidence: float) -> None:
        most = self.config.threshold + self.config.room
        before = agent.level if evidence >= 0 else self.config.kept * agent.level
        agent.level = min(max(before + evidence, 0.0), most)
        if not agent.level:
            agent.repeats = 0
        agent.looping = agent.looping and agent.level > self.config.threshold / 2

    def _agent(self, name: str) -> _Agent:
        agent = self._agents.setdefault(name, _Agent(saved=_PRIOR * self.config.usual))
        self._agents.move_to_end(name)
        while len(self._agents) > MOST_AGENTS:
            self._agents.popitem(last=False)
        return agent
