"""How many tokens a request took, as clients read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sttx_train.serve.jobs import Ask, Event, Generated, PromptRead


class Usage:
    """Counts the tokens of a request.

    Args:
        asks: its texts; those of the same prompt count it once.
        per_prompt: texts of each prompt.
    """

    def __init__(self, asks: Iterable[Ask], per_prompt: int = 1) -> None:
        self._per_prompt = per_prompt
        self.prompt = sum(len(ask.ids) for ask in list(asks)[::per_prompt])
        self.completion = self.cached = 0

    def add(self, index: int, event: Event) -> None:
        """Count what an event of a text says."""
        if isinstance(event, PromptRead):
            self.cached += event.cached if index % self._per_prompt == 0 else 0
            self.completion += event.chosen_tokens
        elif isinstance(event, Generated):
            self.completion += 1

    def as_json(self) -> dict[str, Any]:
        """Return the ``usage`` of chats and completions."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    def of_response(self) -> dict[str, Any]:
        """Return the ``usage`` of a response."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {
                "cached_tokens": self.cached,
                "cache_write_tokens": self.prompt - self.cached,
            },
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.completion,
        }
