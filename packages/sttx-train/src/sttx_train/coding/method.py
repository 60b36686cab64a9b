"""Which predictor drives the coder: the method string of an archive, and what it needs to be decoded.

`experts` is the experts alone, which evaluate the same on every machine.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, Literal

import numpy as np

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import CoderName, Experts, ExpertsConfig, ExpertsDocument
from sttx_core.tokenizers import TrieTokenizer
from sttx_train.formats.locate import EMBEDDED, locate_model

Level = Literal["fast", "default", "best"]
METHODS = {"fast": "experts"}
"""The method of each level."""

PROFILE = "portable"
CODERS: tuple[CoderName, ...] = ("ac", "rans")
EXPERTS_VERSION = 1
"""Changes whenever the experts say something else of the same text: earlier archives are then refused."""

_MOST_BITS = 22
_NOT_YET = ("mini", "file:", "cfg:")


def method_of(level: str, method: str | None) -> str:
    """Return the canonical method of a level, or the one that is named.

    Raises:
        UsageError: it is unknown, or needs a network.
    """
    if method is None:
        if level not in METHODS:
            raise UsageError(
                f"level {level!r} needs a network that computes the same on every machine, which this "
                "version of sttx lacks: use --level fast"
            )
        return METHODS[level]
    named = method.strip()
    if named in METHODS.values():
        return named
    if named.startswith(_NOT_YET):
        raise UsageError(
            f"method {method!r} needs a network that computes the same on every machine, which this version "
            "of sttx lacks: use 'experts'"
        )
    raise UsageError(f"method {method!r} is unknown: use 'experts'")


@cache
def vocabulary() -> TrieTokenizer:
    """Return the vocabulary of the model that ships with sttx."""
    return TrieTokenizer(locate_model(EMBEDDED)[1] / "vocab.txt")


def new_header(method: str, coder: CoderName, config: ExpertsConfig) -> dict[str, Any]:
    """Return the header of a new archive."""
    return {
        "method": method,
        "coder": coder,
        "profile": PROFILE,
        "model": None,
        "vocabulary": vocabulary().sha256,
        "experts_version": EXPERTS_VERSION,
        "experts": asdict(config),
    }


def codec_for(header: Mapping[str, Any]) -> "Codec":
    """Return what decodes an archive with such a header.

    Raises:
        DataError: this installation cannot decode it, or the header is damaged.
    """
    expected = {"method": "experts", "profile": PROFILE, "model": None, "experts_version": EXPERTS_VERSION}
    if not isinstance(header, dict) or header.keys() != {*expected, "coder", "vocabulary", "experts"}:
        raise DataError("the archive's header is damaged: it lacks what says how to decode it")
    for name, value in expected.items():
        if header[name] != value:
            what = name.replace("_", " ")
            raise DataError(f"the archive's {what} is {header[name]!r}, and this sttx decodes {value!r} only")
    if header["vocabulary"] != vocabulary().sha256:
        raise DataError(
            f"the archive was made with another vocabulary ({str(header['vocabulary'])[:12]}…, here "
            f"{vocabulary().sha256[:12]}…): use the version of sttx that made it"
        )
    if header["coder"] not in CODERS:
        raise DataError(
            f"the archive's coder is {header['coder']!r}, and this sttx knows {', '.join(CODERS)}"
        )
    return Codec(header["method"], header["coder"], _sizes(header["experts"]))


def _sizes(value: Any) -> ExpertsConfig:
    try:
        config = ExpertsConfig(**value)
    except (TypeError, UsageError) as error:
        raise DataError("the archive's header is damaged: it lacks the sizes of the experts") from error
    if max(config.slot_bits, config.history_bits, config.index_bits) > _MOST_BITS:
        raise DataError("the archive asks for experts larger than any that sttx uses: it is damaged")
    return config


class Codec:
    """Turns bytes into payloads and back, block by block, and remembers what came before in the segment.

    Args:
        method: what predicts.
        coder: the entropy coder.
        config: sizes of the experts.
    """

    def __init__(self, method: str, coder: CoderName, config: ExpertsConfig) -> None:
        self.method = method
        self._coder: CoderName = coder
        self._config = config
        self._experts: Experts | None = None
        self._document: ExpertsDocument | None = None

    def start_segment(self) -> None:
        """Forget everything."""
        tokens = vocabulary()
        self._experts = Experts(list(map(tokens.token_bytes, range(tokens.vocab_size))), self._config)
        self.start_file()

    def start_file(self) -> None:
        """Start a document; what was read is remembered."""
        assert self._experts is not None, "no segment was started"
        self._document = self._experts.document()

    def encode(self, data: bytes) -> tuple[int, bytes]:
        """Return the number of tokens of a block, and its payload."""
        assert self._experts is not None and self._document is not None, "no segment was started"
        ids = np.array(vocabulary().encode_bytes(data), np.int64)
        return len(ids), self._experts.encode(self._document, ids, self._coder)

    def decode(self, payload: bytes, tokens: int) -> bytes:
        """Return the bytes of a block; wrong ones if the payload is damaged."""
        assert self._experts is not None and self._document is not None, "no segment was started"
        ids = self._experts.decode(self._document, payload, tokens, self._coder)
        return vocabulary().decode_bytes(ids.tolist())
