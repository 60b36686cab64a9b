"""The habits of tool calls: counts of the tools and commands in a stream of traces. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from sttx_core.traces import ToolUse, Trace
from sttx_train.suggest.calls import COMMON, begin, shell_command
from sttx_train.suggest.habits import Habits

_OPENINGS = 4
"""Most openings of one tool that are remembered, the latest."""


@dataclass(kw_only=True)
class CallHabits:
    """The calls of a stream so far: which tools, which commands, after which.

    Sub-agents and what follows a compaction are documents of their own, and so are their habits.

    Attributes:
        tools: names of tools, each after the name before.
        commands: commands of shell tools, each after the first word of the command before.
        openings: of each shell tool what stood before the command; those of `COMMON` at the start.
    """

    tools: Habits = field(default_factory=Habits)
    commands: Habits = field(default_factory=Habits)
    openings: dict[str, tuple[bytes, ...]] = field(default_factory=lambda: dict(COMMON))
    _tool: dict[str, str] = field(default_factory=dict)
    _command: dict[str, str] = field(default_factory=dict)

    def add(self, trace: Trace) -> None:
        """Count a trace, if it is a call."""
        if not isinstance(trace, ToolUse):
            return
        document, name = trace.document, " ".join(trace.name.split())
        self.tools.add(document, name, self._tool.get(document))
        self._tool[document] = name
        if (command := shell_command(trace)) is None:
            return
        self.commands.add(document, command.text, self._command.get(document))
        self._command[document] = begin(command.text, 1)
        if not command.opening:
            return
        others = tuple(known for known in self.openings.get(name, ()) if known != command.opening)
        self.openings[name] = (*others, command.opening)[-_OPENINGS:]

    def next_tools(self, document: str) -> dict[str, dict[str, float]]:
        """Return what each way says of a document's next tool."""
        return self.tools.predict(document, self._tool.get(document))

    def next_commands(self, document: str) -> dict[str, dict[str, float]]:
        """Return what each way says of a document's next command, given that there is one."""
        return self.commands.predict(document, self._command.get(document))
