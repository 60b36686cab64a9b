"""The header of an archive: which method, model and numbers it needs. Written, and checked when it is read.

Knows methods and digests; loads no model.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import CoderName, ExpertsConfig
from sttx_core.foreign_files import shown
from sttx_core.tokenizers import TrieTokenizer
from sttx_train.coding.method import MOST_STREAMS, Method
from sttx_train.coding.primer import primer_sha256
from sttx_train.formats.locate import EMBEDDED, locate_model

CODERS: tuple[CoderName, ...] = ("ac", "rans")
EXPERTS_VERSION = 1
"""Changes whenever the experts say something else of the same text: earlier archives are then refused."""

NETWORK_VERSION = 1
"""The same of the compiled step of networks, and of how blocks are coded side by side."""

_MOST_BITS = 24
"""No level needs larger tables."""


@cache
def vocabulary() -> TrieTokenizer:
    """Return the vocabulary of the model that ships with sttx."""
    return TrieTokenizer(locate_model(EMBEDDED)[1] / "vocab.txt")


def header_of(
    method: Method, coder: CoderName, vocabulary_sha256: str, network: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the header of a new archive; ``network`` identifies its model, as `network_of` returns it."""
    return {
        "method": str(method),
        "coder": coder,
        "profile": method.profile,
        "network": network,
        "vocabulary": vocabulary_sha256,
        "experts_version": EXPERTS_VERSION,
        "experts": asdict(method.experts),
        "primer": _primer(method),
    }


def network_of(
    method: Method,
    name: str,
    model: str,
    learned: str | None,
    fingerprint: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a header says of a network.

    Args:
        method: what predicts.
        name: of its model.
        model: SHA-256 of its weights.
        learned: SHA-256 of what was learned, None for nothing.
        fingerprint: where it can be computed, None for everywhere.
    """
    return {
        "name": name,
        "model": model,
        "learned": learned,
        "streams": method.streams,
        "fingerprint": fingerprint,
        "version": NETWORK_VERSION,
    }


def _primer(method: Method) -> str | None:
    """Return the SHA-256 of what its experts have read, None for nothing."""
    return primer_sha256(method.network is not None) if method.primed else None


def method_in(header: Any) -> Method:
    """Return the method of an archive, without its model.

    Raises:
        DataError: this installation cannot decode it, or the header is damaged.
    """
    keys = header_of(Method(), "ac", "", None).keys()
    if not isinstance(header, dict) or header.keys() != keys:
        raise DataError("the archive's header is damaged: it lacks what says how to decode it")
    _require("experts_version", header["experts_version"], EXPERTS_VERSION)
    if header["coder"] not in CODERS:
        raise DataError(
            f"the archive's coder is {shown(header['coder'])}, and this sttx knows {', '.join(CODERS)}"
        )
    method, network = _named_method(header["method"]), header["network"]
    if method.network is not None:
        _check_network(network, method)
        method = replace(method, streams=network["streams"])
    elif network is not None:
        raise DataError("the archive's header is damaged: its method has no network")
    _require("profile", header["profile"], method.profile)
    _require("primer", header["primer"], _primer(method))
    return replace(method, experts=_sizes(header["experts"]))


def _named_method(name: Any) -> Method:
    """Return the method that a header names."""
    unknown = f"the archive's method is {shown(name)}, which this sttx does not know: update sttx"
    if not isinstance(name, str):
        raise DataError(unknown)
    try:
        method = Method.parse(name)
    except UsageError as error:
        raise DataError(unknown) from error
    percent = method.policy is not None and method.policy.percent
    if str(method) != name or percent or (method.random and not method.learns):
        raise DataError(unknown)
    return method


def _check_network(network: Any, method: Method) -> None:
    keys = network_of(Method(), "", "", None).keys()
    if not isinstance(network, dict) or network.keys() != keys:
        raise DataError("the archive's header is damaged: it lacks what says which network it needs")
    _require("network version", network["version"], NETWORK_VERSION)
    policy = method.learns
    starts = method.learned or (policy is not None and policy.load_from is not None)
    kinds = {
        "name": str,
        "model": str,
        "streams": int,
        "learned": str if starts else type(None),
        "fingerprint": dict if policy else type(None),
    }
    right = all(type(network[name]) is kind for name, kind in kinds.items())
    most = 1 if policy else MOST_STREAMS
    if not right or not 1 <= network["streams"] <= most:
        raise DataError("the archive's header is damaged: what it says of its network is impossible")


def _require(name: str, found: Any, expected: Any) -> None:
    if found != expected:
        what = name.replace("_", " ")
        raise DataError(f"the archive's {what} is {shown(found)}, and this sttx decodes {expected!r} only")


def _sizes(value: Any) -> ExpertsConfig:
    try:
        config = ExpertsConfig(**value)
    except (TypeError, UsageError) as error:
        raise DataError("the archive's header is damaged: it lacks the sizes of the experts") from error
    if max(config.slot_bits, config.history_bits, config.index_bits) > _MOST_BITS:
        raise DataError("the archive asks for experts larger than any that sttx uses: it is damaged")
    # Numba would compile everything again for a number of another type.
    if any(type(value.get(name)) is not type(default) for name, default in asdict(ExpertsConfig()).items()):
        raise DataError("the archive's header is damaged: it lacks the sizes of the experts")
    return config
