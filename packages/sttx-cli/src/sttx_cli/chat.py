"""A conversation on a terminal: lines that a person types, answers as they are generated, and commands.

Ctrl-C ends an answer, and the end of input ends the chat. Knows a `Conversation`; not what answers.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sttx_ccsniff import TRACES_HEADER, dump_trace
from sttx_cli.failures import error_sentence
from sttx_cli.output import PieceOutput, count, emit_line, out_is_terminal, say
from sttx_cli.plain import one_line
from sttx_core.errors import UsageError
from sttx_core.own_files import open_own, replacing_file
from sttx_core.render import render

if TYPE_CHECKING:
    from sttx_train.generate import Conversation

_COMMAND = re.compile(r"/(\w*)(?:\s+(.*))?")
_START = 100  # bytes that tell a saved chat
_COMMANDS = "/reset forgets the conversation, /save FILE keeps it as traces"


def run_chat(conversation: "Conversation", *, first: str | None = None, learns: bool = False) -> None:
    """Talk until the end of input.

    Args:
        conversation: who answers.
        first: what the person says first; None to ask.
        learns: whether what the person says is learned from.
    """
    say(f"{_COMMANDS}; Ctrl-C ends an answer, the end of input (Ctrl-D) the chat")
    if learns:
        say("what you say is learned from; that stays in memory, and ends with the chat")
    line = first
    while True:
        try:
            if line is None:
                line = _read_line()
            if line is None:
                return
            _obey(conversation, line.strip(), learns)
        except KeyboardInterrupt:
            say("the end of input (Ctrl-D) ends the chat")
        except (UsageError, OSError) as error:
            say(error_sentence(error))
        line = None


def _read_line() -> str | None:
    """Return the next line; None at the end of input.

    Raises:
        UsageError: It is not UTF-8.
    """
    on_terminal = sys.stdin.isatty() and out_is_terminal()
    try:
        return input("> " if on_terminal else "")
    except EOFError:
        if on_terminal:
            emit_line("")
        return None
    except UnicodeDecodeError as error:
        raise UsageError("that line is not UTF-8: write it again") from error


def _obey(conversation: "Conversation", line: str, learns: bool) -> None:
    if not line:
        return
    if (command := _COMMAND.fullmatch(line)) is None:
        _answer(conversation, line, learns)
    elif command[1] == "reset" and not command[2]:
        conversation.reset()
        say("the conversation starts again" + ("; what was learned stays" if learns else ""))
    elif command[1] == "save":
        _save(conversation, command[2] or "")
    else:
        raise UsageError(f"{one_line(line, 60)!r} is not a command: {_COMMANDS}")


def _save(conversation: "Conversation", path: str) -> None:
    """Write the turns as lines of JSON that every command reads as a source; nobody else may read them.

    Raises:
        UsageError: There is nothing to write, or a file at the path that is not a saved chat.
    """
    if not path:
        raise UsageError("/save needs the name of a file: /save talk.jsonl")
    if not conversation.traces:
        raise UsageError("there is nothing to save yet")
    _refuse_unless_chat(path)
    lines = [TRACES_HEADER, *map(dump_trace, conversation.traces)]
    with replacing_file(Path(path), private=True) as aside:
        aside.write_bytes(b"".join(line + b"\n" for line in lines))
    say(f"{count(len(conversation.traces), 'turn')} saved in {path!r}")


def _refuse_unless_chat(path: str) -> None:
    try:
        with open(open_own(path, os.O_RDONLY), "rb") as file:
            start = file.read(_START)
    except FileNotFoundError:
        return
    if not re.match(re.escape(TRACES_HEADER) + rb'\n\{"type":"\w+","meta":\{"session":"chat-', start):
        raise UsageError(f"{path!r} exists and is not a saved chat: give another name, or remove it")


def _answer(conversation: "Conversation", text: str, learns: bool) -> None:
    """Read what the person says, and print the answer as it comes."""
    with _noted_interrupts() as interrupts:
        prices = conversation.say(text)
        if learns:
            size = len(render(conversation.traces[-1]).encode())
            bits = float(prices.bits.sum())
            say(f"paid {bits:,.0f} bits for {count(size, 'byte')}, {bits / size:.3f} bits per byte")
        answer, output, shown = conversation.answer(), PieceOutput(), ""
        try:
            for piece in answer:
                piece = piece if shown else piece.lstrip()
                shown += piece
                output.emit(piece)
                if interrupts:
                    break
        finally:
            answer.close()
            if not shown.endswith("\n"):
                output.emit("\n")
        if interrupts:
            say("stopped")


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Note each SIGINT inside the block in a list, so that no step of the model is torn."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
