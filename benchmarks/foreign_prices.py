"""Prices spans of tool results in several roles: in their place, as another result, and as a user's words.

All prices are those of readers of the network alone, without experts. A span is some lines, or part of a
long one. Knows sessions and a predictor; not which spans were planted, and makes no verdict.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sttx_core.render import render
from sttx_core.traces import ToolResult
from sttx_train import LoadedModel, Predictor, Reader

LONGEST = 40  # tokens of a span
SHORTEST = 12  # a span ends with the first line that ends after so many tokens


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a tool's output and what it costs, in bits, in each role.

    Attributes:
        text: the part, without outer white space.
        start: characters before it in the rendered result.
        bytes: its UTF-8 bytes.
        place: where it stands, after what came before it.
        result_here, user_here: as the start of the result, or of a user's turn instead of it.
        result_alone, user_alone: the same at the start of a document.
        request: as the start of a user's turn, after a user who has made many requests.
    """

    text: str
    start: int
    bytes: int
    place: float
    result_here: float
    user_here: float
    result_alone: float
    user_alone: float
    request: float


class Pricer:
    """Reads documents, and prices the spans of results before it reads them.

    Args:
        loaded: the model.
        requests: what that user has asked for, a line each.
    """

    def __init__(self, loaded: LoadedModel, requests: Sequence[str]) -> None:
        self.predictor = Predictor(loaded, experts=False)
        self.tokenizer = loaded.tokenizer
        self.nothing = self.predictor.read()
        self.requests = self.read("".join(f"User: {line}\n\n" for line in requests))

    def read(self, text: str) -> Reader:
        """Return a reader after a text."""
        reader = self.predictor.read()
        reader.advance(self.tokenizer.encode(text))
        return reader

    def price(self, before: str, results: Sequence[ToolResult]) -> list[list[Span]]:
        """Return the spans of results of one tool, each as if it came after the same text."""
        reader = self.read(before)
        found = [self._in_place(reader, render(result)) for result in results]
        head = render(dataclasses.replace(results[0], output=""))[:-1]  # of its two line ends it keeps one
        texts = sorted({text for spans in found for text, *_ in spans})
        roles = {
            "result_here": (reader, head),
            "user_here": (reader, "User: "),
            "result_alone": (self.nothing, head),
            "user_alone": (self.nothing, "User: "),
            "request": (self.requests, "User: "),
        }
        bits = iter(self._bits([(*role, text) for role in roles.values() for text in texts]))
        priced = {role: {text: next(bits) for text in texts} for role in roles}
        return [
            [
                Span(
                    text=text,
                    start=start,
                    bytes=len(text.encode()),
                    place=place,
                    **{role: priced[role][text] for role in roles},
                )
                for text, start, place in spans
            ]
            for spans in found
        ]

    def _in_place(self, reader: Reader, text: str) -> list[tuple[str, int, float]]:
        """Return text, start and bits of each span of a result."""
        ids = self.tokenizer.encode(text)
        bits = copy.copy(reader).advance(ids).network
        pieces = [self.tokenizer.decode_bytes([token]) for token in ids]
        spans, data = [], text.encode()
        head = len(data[: data.index(b"\n") + 1])
        for first, last in cut(pieces, head):
            before = sum(map(len, pieces[:first]))
            part = data[before : before + sum(map(len, pieces[first:last]))].decode(errors="ignore")
            if part.strip():
                start = len(data[:before].decode(errors="ignore"))
                spans.append((part.strip(), start, float(bits[first:last].sum())))
        return spans

    def _bits(self, jobs: Sequence[tuple[Reader, str, str]]) -> list[float]:
        """Return what a text costs after a reader's and a label."""
        ids = [self.tokenizer.encode(label + text) for _, label, text in jobs]
        skipped = {label: len(self.tokenizer.encode(label)) for _, label, _ in jobs}
        batch = self.predictor.batch([copy.copy(reader) for reader, _, _ in jobs])
        prices = batch.advance_in_order(list(enumerate(ids)))
        return [
            float(price.network[skipped[label] :].sum())
            for price, (_, label, _) in zip(prices, jobs, strict=True)
        ]


def cut(pieces: Sequence[bytes], skip: int) -> Iterator[tuple[int, int]]:
    r"""Yield first and last token (exclusive) of each span of a text, after some bytes that belong to none.

    >>> list(cut([b"head\n", *[b"x"] * 11, b"\n", b"y", b"\n\n"], 5))
    [(1, 13), (13, 15)]
    """
    at, first = 0, None
    for index, piece in enumerate(pieces):
        at += len(piece)
        if first is None:
            if at > skip:
                first = index
            else:
                continue
        size = index + 1 - first
        if size >= LONGEST or (size >= SHORTEST and b"\n" in piece) or index + 1 == len(pieces):
            yield first, index + 1
            first = index + 1
