"""Turns bytes into payloads and back, by the predictor of one archive. Knows blocks; no files, no records.

Blocks come in batches. Those of a batch are coded side by side if there is a network. Experts remember all
blocks of a segment.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sttx_core.errors import DataError, SttxError, SttxWarning, UsageError
from sttx_core.experts import CoderName, Experts, ExpertsDocument, rows_without_experts
from sttx_core.foreign_files import shown
from sttx_core.tokenizers import Tokenizer
from sttx_train.byte_lengths import every_token
from sttx_train.coding.container import BLOCK_BYTES
from sttx_train.coding.header import header_of, method_in, network_of, vocabulary
from sttx_train.coding.method import Method, Reading
from sttx_train.coding.primer import primed

if TYPE_CHECKING:
    from sttx_train.coding.lanes import Lanes, Rows
    from sttx_train.coding.learning import LearningRows
    from sttx_train.coding.networks import Loaded

_OUTER = (
    "the run of --checkpoint took outer steps (--state-lr), which archives do not take: what the run learned "
    "for all documents is used, and each document costs more than the run paid"
)
_STREAM_BYTES = 1 << 17
_LEAST_PIECE = 1 << 14
"""Bytes of a block that is coded beside others: its document starts with what the experts know alone."""


class Codec:
    """Turns batches of blocks into payloads and back, and remembers what came before in the segment.

    Args:
        method: what predicts.
        coder: the entropy coder.
        loaded: the networks, None if the method has none.
        fingerprint: of profile native, None for portable.

    Attributes:
        method: what predicts.
        header: of an archive that it writes.
        batch_bytes: bytes that a batch should have.
        size: bytes that were coded in the segment.
        last_file: number of the file that was coded last; -1 at a segment's start.
    """

    def __init__(
        self,
        method: Method,
        coder: CoderName,
        loaded: Loaded | None,
        fingerprint: Mapping[str, Any] | None = None,
    ) -> None:
        assert method.primed is not None, "the first file decides whether the primer is read"
        self.method = method
        self.batch_bytes = method.streams * _STREAM_BYTES if loaded else BLOCK_BYTES
        self._coder: CoderName = coder
        self._loaded = loaded
        self._tokenizer: Tokenizer = loaded.tokenizer if loaded else vocabulary()
        tokenizer = self._tokenizer
        self._tokens = loaded.tokens if loaded else every_token(tokenizer, tokenizer.vocab_size)
        self._lengths = np.array(list(map(len, self._tokens)))
        network = (
            network_of(method, loaded.name, loaded.model, loaded.learned, fingerprint) if loaded else None
        )
        named = method.named(loaded.name) if loaded else method
        self.header: dict[str, Any] = header_of(named, coder, self._tokenizer.sha256, network)
        self._experts: Experts | None = None
        self._document: ExpertsDocument | None = None
        self._lanes: Lanes | None = None
        self._learning: LearningRows | None = None
        self.size, self.last_file = 0, -1

    def start_segment(self) -> None:
        """Forget everything.

        Raises:
            SttxError: there is not enough memory for the experts.
        """
        self.size, self.last_file = 0, -1
        self._experts = None  # before the next ones take as much
        try:
            self._experts = self._new_experts() if self.method.with_experts else None
        except MemoryError as error:
            slots = 1 << self.method.experts.slot_bits
            raise SttxError(
                f"there is not enough memory for the tables of this method, over {slots * 32 / 1e6:.0f} MB: "
                "free some; level fast takes the least"
            ) from error
        self._lanes = None if self._loaded is None else self._new_lanes(self._loaded)

    def _new_experts(self) -> Experts:
        if self.method.primed:
            sizes = len(self._tokens), self.method.experts
            return primed(self._tokenizer, *sizes, with_network=self._loaded is not None)
        return Experts(self._tokens, self.method.experts)

    def _new_lanes(self, loaded: Loaded) -> Lanes:
        from sttx_train.coding.lanes import Lanes

        streams, coder = self.method.streams, self._coder
        coded = (
            rows_without_experts(self._tokens, streams, coder)
            if self._experts is None
            else self._experts.rows(streams, coder)
        )
        networks = [_rows(reading, self.method, loaded) for reading in self.method.networks]
        self._learning = cast("LearningRows", networks[0]) if self.method.learns else None
        return Lanes(coded, networks, streams, self._tokenizer.eot_id)

    def save_learned(self, folder: Path) -> Path:
        """Write what the network has learned in the segment so far; return the checkpoint.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self._learning is None:  # nothing was coded
            self.start_segment()
        assert self._learning is not None, "no network learns"
        return self._learning.save(folder)

    def cut(self, parts: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Cut parts of files into blocks of nearly the same size, about as many as there are streams.

        Args:
            parts: number of a file, and bytes of it.
        """
        total = sum(len(data) for _, data in parts)
        most = min(max(_LEAST_PIECE, -(-total // self.method.streams)), BLOCK_BYTES)
        blocks = []
        for file, data in parts:
            count = -(-len(data) // most)
            bounds = [len(data) * number // count for number in range(count + 1)]
            blocks += [(file, data[first:last]) for first, last in zip(bounds, bounds[1:], strict=False)]
        return blocks

    def encode(
        self, blocks: Sequence[tuple[int, bytes]], advance: Callable[[int], object]
    ) -> list[tuple[int, bytes]]:
        """Return the number of tokens and the payload of each block of a batch.

        Args:
            blocks: number of each block's file, and its bytes, at least one.
            advance: called with the number of bytes as they are coded.
        """
        ids = [np.array(self._tokenizer.encode_bytes(data), np.int64) for _, data in blocks]
        self.size += sum(len(data) for _, data in blocks)
        goes_on = self._goes_on(blocks[0][0], blocks[-1][0])
        if self._lanes is not None:
            payloads = self._lanes.encode(ids, goes_on=goes_on, advance=self._counted(advance))
            return list(zip(map(len, ids), payloads, strict=True))
        assert self._experts is not None and len(blocks) == 1, "one block at a time without a network"
        payload = self._experts.encode(self._current(goes_on), ids[0], self._coder)
        advance(len(blocks[0][1]))
        return [(len(ids[0]), payload)]

    def decode(
        self, blocks: Sequence[tuple[int, int, bytes]], advance: Callable[[int], object]
    ) -> list[bytes]:
        """Return the bytes of each block of a batch; wrong ones if a payload is damaged.

        Args:
            blocks: number of each block's file, its number of tokens and its payload.
            advance: called with the number of bytes as they are decoded.
        """
        counts, payloads = [block[1] for block in blocks], [block[2] for block in blocks]
        goes_on = self._goes_on(blocks[0][0], blocks[-1][0])
        if self._lanes is not None:
            ids = self._lanes.decode(payloads, counts, goes_on=goes_on, advance=self._counted(advance))
        else:
            assert self._experts is not None and len(blocks) == 1, "one block at a time without a network"
            document = self._current(goes_on)
            ids = [self._experts.decode(document, payloads[0], counts[0], self._coder)]
            advance(int(self._lengths[ids[0]].sum()))
        plains = [self._text_of(block) for block in ids]
        self.size += sum(map(len, plains))
        return plains

    def _text_of(self, ids: np.ndarray) -> bytes:
        """Return the bytes of tokens, b"" if they are more than a block has."""
        fits = self._lengths[ids].sum() <= BLOCK_BYTES
        return b"".join(map(self._tokens.__getitem__, ids.tolist())) if fits else b""

    def _goes_on(self, first: int, last: int) -> bool:
        """Return whether the first block continues the last one of the batch before."""
        before, self.last_file = self.last_file, last
        return before == first

    def _current(self, goes_on: bool) -> ExpertsDocument:
        assert self._experts is not None, "no segment was started"
        if self._document is None or not goes_on:
            self._document = self._experts.document()
        return self._document

    def _counted(self, advance: Callable[[int], object]) -> Callable[[np.ndarray], object]:
        return lambda ids: advance(int(self._lengths[ids].sum()))


def new_codec(method: Method, coder: CoderName) -> Codec:
    """Return what codes by a method.

    Raises:
        UsageError, ModelError, CheckpointError: its model or checkpoint cannot be used.

    Warns:
        SttxWarning: the run of the checkpoint took outer steps, which coding does not take.
    """
    loaded = _load(method, method.model, method.checkpoint) if method.networks else None
    if loaded is not None and loaded.leaves_out_outer_steps:
        warnings.warn(_OUTER, SttxWarning, stacklevel=2)
    return Codec(method, coder, loaded, _fingerprint(method, loaded))


def codec_for(header: Mapping[str, Any], model: str | None = None, checkpoint: str | None = None) -> Codec:
    """Return what decodes an archive with such a header.

    Args:
        header: of the archive.
        model: the model it needs, None for goose-mini.
        checkpoint: what was learned of it, None for nothing.

    Raises:
        DataError: this installation cannot decode it, the header is damaged, or it needs another model or
            checkpoint.
        UsageError: it needs no model, or no checkpoint.
        ModelError, CheckpointError: they cannot be read.
    """
    method = method_in(header)
    needed = header["network"]
    _check_options(method, needed, model, checkpoint)
    if needed is None:
        _check_vocabulary(header, vocabulary())
        return Codec(method, header["coder"], None)
    if method.learns:  # before anything is loaded
        from sttx_train.coding.learning import check_fingerprint, versions

        check_fingerprint(needed["fingerprint"], versions())
    loaded = _load(method, model, checkpoint)
    _check_same("model", needed["model"], loaded.model, f"{needed['name']!r} with --model")
    _check_same("checkpoint", needed["learned"], loaded.learned, "the one it was made with")
    _check_vocabulary(header, loaded.tokenizer)
    if (here := _fingerprint(method, loaded)) is not None:
        from sttx_train.coding.learning import check_fingerprint

        check_fingerprint(needed["fingerprint"], here)
    return Codec(method, header["coder"], loaded, here)


def _check_options(
    method: Method, needed: Mapping[str, Any] | None, model: str | None, checkpoint: str | None
) -> None:
    """Refuse a model or a checkpoint that an archive does not need, and a missing checkpoint."""
    if model is not None and (needed is None or method.random):
        what = "no network" if needed is None else "a random model, which its method describes"
        raise UsageError(f"the archive needs {what}: leave out --model")
    learned = None if needed is None else needed["learned"]
    if checkpoint is not None and learned is None:
        raise UsageError("the archive was made without a checkpoint: leave out --checkpoint")
    if checkpoint is None and learned is not None:
        raise DataError(
            f"the archive was made with what a run learned, SHA-256 {_start_of(learned)}: name the run, "
            "checkpoint or tuned state with --checkpoint"
        )


def _rows(reading: Reading, method: Method, loaded: Loaded) -> Rows:
    """Return a network that reads so, ready to read documents."""
    if reading == "learning":
        from sttx_train.coding.learning import LearningRows

        assert method.learns is not None, "a network learns by a policy"
        return LearningRows(loaded.base, method.learns, loaded.start)
    from sttx_train.coding.networks import NetworkRows

    network = loaded.tuned if reading == "learned" else loaded.frozen
    assert network is not None, "a header without what its method needs was accepted"
    return NetworkRows(network)


def _fingerprint(method: Method, loaded: Loaded | None) -> dict[str, Any] | None:
    """Return what profile native computes here, with a text that is learned; None for portable."""
    if loaded is None or method.learns is None:
        return None
    from sttx_train.coding.learning import fingerprint
    from sttx_train.coding.vector import TEXT

    return fingerprint(loaded.base, 4 * TEXT, method.learns, loaded.start)


def _start_of(digest: object) -> str:
    """Return the start of a digest for a message; an archive may have anything in its place."""
    return f"{ascii(digest)[1:17]}…" if isinstance(digest, str) else shown(digest)


def _check_same(what: str, needed: str | None, found: str | None, advice: str) -> None:
    if needed != found:
        raise DataError(
            f"the archive was made with another {what}, SHA-256 {_start_of(needed)} and not "
            f"{_start_of(found)}: name {advice}"
        )


def _load(method: Method, model: str | None, checkpoint: str | None) -> Loaded:
    from sttx_train.coding.networks import load_networks

    learns = method.learns is not None
    return load_networks(model, checkpoint, random=method.random, learns=learns)


def _check_vocabulary(header: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    if header["vocabulary"] != tokenizer.sha256:
        raise DataError(
            f"the archive was made with another vocabulary ({_start_of(header['vocabulary'])}, here "
            f"{_start_of(tokenizer.sha256)}): use the version of sttx that made it"
        )
