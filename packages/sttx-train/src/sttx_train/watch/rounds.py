"""Makes rounds of priced traces: a call of a tool and its result, in bounded memory.

Calls run side by side, results come without their calls, and calls stay without results; sub-agents count
apart. Knows priced traces; not whether a round is part of a loop.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from sttx_core.traces import SessionEnd, ToolResult, ToolUse, Trace, UserMessage
from sttx_train.evaluate import ScoredTrace
from sttx_train.watch.gist import gist
from sttx_train.watch.waiting import waits

MOST_WAITING = 64
"""Calls of one agent that may wait for their results; beyond it the oldest becomes a round without one."""

MOST_AGENTS = 1024
"""Agents whose rounds are counted; beyond it the least recently active one starts again at round 1."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A call of a tool and its result, and what they cost.

    Attributes:
        session: the session.
        agent: the sub-agent that called; "" for the session itself.
        project: what the session works on, usually the name of a folder; "" if unknown.
        number: which round of the agent this is, from 1.
        tool: name of the tool.
        uid: identity of the result's trace, or of the call's where there is no result.
        time: when the last of the two was written, Unix seconds; 0 if unknown.
        bytes: UTF-8 bytes that were priced.
        bits: the price by everything that predicts.
        network_bits: the price by the learned network alone.
        frozen_bits: the price by the frozen network; NaN if it is not computed.
        gist: a hash of its text without paths and words with digits; "" if unknown.
        waits: whether the call waits for something, such as a build.
        answered: whether there is a result.
        failed: whether the tool reported an error.
        turn: number of the agent's turn, from 1: calls without a result between them are one turn; 0 if
            unknown.
    """

    session: str
    agent: str
    project: str
    number: int
    tool: str
    uid: str
    time: float
    bytes: int
    bits: float
    network_bits: float
    frozen_bits: float
    gist: str = ""
    waits: bool = False
    answered: bool = True
    failed: bool = False
    turn: int = 0

    @property
    def name(self) -> str:
        """Name of the agent, as a trace's document has it."""
        return agent_name(self.session, self.agent)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A user's message and what it cost.

    Attributes:
        name: the agent that it was said to, as `Round.name`.
        bytes: UTF-8 bytes that were priced.
        bits: the price by everything that predicts.
        network_bits: the price by the learned network alone.
    """

    name: str
    bytes: int
    bits: float
    network_bits: float


@dataclass
class _Agent:
    """The calls of an agent that wait for results, each with its turn, and how many rounds it has had."""

    waiting: OrderedDict[str, tuple[ScoredTrace, int]] = field(default_factory=OrderedDict)
    rounds: int = 0
    unnamed: int = 0
    turn: int = 0
    calling: bool = False  # whether the last call has no result, nor a user's message, after it


class RoundMaker:
    """Makes rounds of priced traces, in their order."""

    def __init__(self) -> None:
        self._agents: OrderedDict[str, _Agent] = OrderedDict()

    def add(self, scored: ScoredTrace) -> list[Round | Said]:
        """Take a priced trace, and return what it completes."""
        trace = scored.trace
        agent = self._agent(trace)
        match trace:
            case ToolUse():
                return self._call(agent, trace, scored)
            case ToolResult():
                return [self._answer(agent, trace, scored)]
            case UserMessage():
                agent.calling = False
                said = Said(
                    name=agent_name(trace.meta.session, trace.meta.subagent),
                    bytes=scored.bytes,
                    bits=scored.bits,
                    network_bits=scored.network_bits,
                )
                return [said]
            case _:
                return []

    def end(self, trace: SessionEnd | None = None) -> list[Round]:
        """Return the calls without results as rounds: of the agent that ended, or of all."""
        agents = list(self._agents.values()) if trace is None else [self._agent(trace)]
        return [self._unanswered(agent) for agent in agents for _ in range(len(agent.waiting))]

    def _call(self, agent: _Agent, call: ToolUse, scored: ScoredTrace) -> list[Round | Said]:
        agent.turn += not agent.calling
        agent.calling = True
        agent.unnamed += not call.id
        key = call.id or f"\0{call.name}\0{agent.unnamed}"
        ended: list[Round | Said] = [self._unanswered(agent, key)] if key in agent.waiting else []
        agent.waiting[key] = scored, agent.turn
        if len(agent.waiting) > MOST_WAITING:
            ended.append(self._unanswered(agent))
        return ended

    def _unanswered(self, agent: _Agent, key: str | None = None) -> Round:
        """Take out a call, by default the oldest, and return it as a round without a result."""
        scored, turn = agent.waiting.pop(next(iter(agent.waiting)) if key is None else key)
        return self._round(agent, turn, scored, None)

    def _answer(self, agent: _Agent, result: ToolResult, scored: ScoredTrace) -> Round:
        """Take out the call that a result answers; without an id the oldest of that name."""
        agent.calling = False
        key: str | None = result.id
        if not key:
            prefix = f"\0{result.name}\0"
            key = next((key for key in agent.waiting if key.startswith(prefix)), None)
        if key not in agent.waiting:
            agent.turn += 1
            return self._round(agent, agent.turn, None, scored)
        call, turn = agent.waiting.pop(key)
        return self._round(agent, turn, call, scored)

    def _round(self, agent: _Agent, turn: int, call: ScoredTrace | None, result: ScoredTrace | None) -> Round:
        parts = [part for part in (call, result) if part is not None]
        last = parts[-1].trace
        assert isinstance(last, ToolUse | ToolResult)
        agent.rounds += 1
        return Round(
            session=last.meta.session,
            agent=last.meta.subagent,
            project=last.meta.project,
            number=agent.rounds,
            tool=last.name or (call.trace.name if call and isinstance(call.trace, ToolUse) else ""),
            uid=last.meta.uid,
            time=last.meta.time,
            bytes=sum(part.bytes for part in parts),
            bits=sum(part.bits for part in parts),
            network_bits=sum(part.network_bits for part in parts),
            frozen_bits=sum(part.frozen_bits for part in parts),
            gist=gist([part.trace for part in parts]),
            waits=call is not None and isinstance(call.trace, ToolUse) and waits(call.trace),
            answered=result is not None,
            failed=isinstance(last, ToolResult) and last.is_error,
            turn=turn,
        )

    def _agent(self, trace: Trace) -> _Agent:
        name = agent_name(trace.meta.session, trace.meta.subagent)
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = _Agent()
        self._agents.move_to_end(name)
        while len(self._agents) > MOST_AGENTS:
            self._agents.popitem(last=False)
        return agent


def agent_name(session: str, agent: str) -> str:
    """Return the name of an agent: its session, and after a slash the sub-agent."""
    return f"{session}/{agent}" if agent else session
