"""Recognizes talk that is written twice: replays, and prompts that pass through Claude Code's queue.

A *replay* (`isReplay`) repeats a message under a new uuid, to confirm it. A log may hold the replay alone, or
before the message, so the first of them is read.

A prompt that is typed while the agent works is *queued*: `queue-operation` records say so, with `enqueue` and
then `remove` when the running turn takes it in. Some versions also write it as an `attachment` or as a user's
record, before or after `remove`; others write it nowhere else. So a removed prompt is held until the next
answer, and is a message of the person if no other record repeated it. `popAll` gives prompts back to the
person, who may change them, and `dequeue` precedes a user's record: neither is a prompt.
"""

import hashlib
from typing import Any

from sttx_ccsniff.parse.content import text_of
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

_MOST_QUEUED = 32
_MOST_CHARACTERS = 2**20  # of a held prompt
_KEPT = (
    "sessionId",
    "session_id",
    "timestamp",
    "cwd",
    "agentId",
    "parentToolUseId",
    "isSidechain",
    "content",
)
_ABSORBED = "absorbed_mid_turn"
_QUEUED, _SAID, _READ = "queued", "said", "read"  # the states of a queued prompt


def is_replay(record: dict[str, Any], content: Any, session: str, seen: Seen) -> bool:
    """Return whether a record says again what another one of the same session has said.

    It does if it is a replay of a message or of a replay that was read, or the message of a replay that was
    read first. Only programs that write `session_id` replay messages, so only their messages are remembered.
    """
    if record.get("isReplay") is True:
        said = _said(content, session)
        return seen.knows(said) or not seen.first_time(f"replayed {said}")
    if "session_id" not in record:
        return False
    said = _said(content, session)
    return seen.first_time(said) and seen.knows(f"replayed {said}")


def _said(content: Any, session: str) -> str:
    is_text = isinstance(content, list) and all(
        isinstance(block, dict) and block.get("type") == "text" for block in content
    )
    return f"said {session} {_digest(_words(content) if is_text else text_of(content))}"


class PromptQueue:
    """Follows the queued prompts of one file.

    >>> queue = PromptQueue(SourceReport())
    >>> queue.read({"operation": "remove", "content": "and the roots"}, "s:2")
    >>> [(prompt["uuid"], prompt["message"]) for prompt in queue.take()]
    [('s:2', {'content': 'and the roots'})]
    """

    def __init__(self, report: SourceReport) -> None:
        self._report = report
        self._states: tuple[tuple[str, str], ...] = ()  # (digest, state), newest first; replaced, not changed
        self._held: tuple[dict[str, Any], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether a removed prompt waits for a record that repeats it."""
        return bool(self._held)

    def read(self, record: dict[str, Any], uid: str) -> None:
        """Read a `queue-operation`: hold a prompt that is removed, count every other operation.

        Args:
            record: The record.
            uid: The uid of the prompt's trace.
        """
        content, operation = record.get("content"), record.get("operation")
        words = _words(content)
        digest = _digest(words)
        is_read = content and len(words) <= _MOST_CHARACTERS and record.get("reason", _ABSORBED) == _ABSORBED
        if operation == "remove" and is_read:
            if dict(self._states).get(digest) != _SAID:
                prompt = {key: record[key] for key in _KEPT if key in record}
                prompt |= {"type": "user", "uuid": uid, "message": {"content": content}}
                self._held = (*self._held[1 - _MOST_QUEUED :], prompt)
                return
            self._set(digest, None)
        elif operation == "enqueue" and content:
            self._set(digest, _QUEUED)
        self._report.skip("queue-operation")

    def repeats(self, content: Any) -> bool:
        """Note a prompt of another record; return whether it was already read as a removed prompt."""
        if not (self._states or self._held) or not (words := _words(content)):
            return False
        digest = _digest(words)
        for at, prompt in enumerate(self._held):
            if _digest(_words(prompt["content"])) == digest:
                self._held = (*self._held[:at], *self._held[at + 1 :])
                self._report.skip("queue-operation")
                return False
        state = dict(self._states).get(digest)
        if state == _QUEUED:
            self._set(digest, _SAID)
        elif state == _READ:
            self._set(digest, None)
            self._report.skip("queued prompt that was read before")
        return state == _READ

    def take(self) -> list[dict[str, Any]]:
        """Return the held prompts as user's records, which are now read."""
        held, self._held = list(self._held), ()
        for prompt in held:
            self._set(_digest(_words(prompt["content"])), _READ)
        return held

    def state_dict(self) -> tuple[Any, ...]:
        """Return the states of the queued prompts and the held records, JSON-able and never changed later."""
        return self._states, self._held

    def load_state_dict(self, state: list[Any] | tuple[Any, ...]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: The state is invalid.
        """
        match state:
            case [[*states], [*held]] if all(map(_is_state, states)) and all(map(_is_held, held)):
                self._states = tuple((digest, kind) for digest, kind in states[:_MOST_QUEUED])
                self._held = tuple(held[:_MOST_QUEUED])
            case _:
                raise ValueError("not a state of queued prompts")

    def _set(self, digest: str, state: str | None) -> None:
        rest = tuple(prompt for prompt in self._states if prompt[0] != digest)
        new = () if state is None else ((digest, state),)
        self._states = (*new, *rest)[:_MOST_QUEUED]


def _is_state(value: Any) -> bool:
    match value:
        case [str(), "queued" | "said" | "read"]:
            return True
        case _:
            return False


def _is_held(value: Any) -> bool:
    return isinstance(value, dict) and {"content", "message", "uuid"} <= value.keys()


def _words(content: Any) -> str:
    """Return the text in a message's content, a string or a list of blocks."""
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return text_of(content)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.strip().encode("utf-8", "replace"), digest_size=8).hexdigest()
