"""Which predictor drives the coder: the method string of an archive, and what it needs to be decoded.

A method names what is mixed, joined by `+`: `mini` is goose-mini and `model` another model, with `[learned]`
what a run learned of it, and `experts` learn while they code. All of this gives the same numbers on every
machine. A network that learns while it codes, `[learning]`, does not.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, get_args

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import CoderName, ExpertsConfig
from sttx_core.tokenizers import TrieTokenizer
from sttx_train.formats.locate import EMBEDDED, locate_model

Level = Literal["fast", "default", "best"]
EXPERTS = "experts"
Profile = Literal["portable", "native"]
CODERS: tuple[CoderName, ...] = ("ac", "rans")
EXPERTS_VERSION = 1
"""Changes whenever the experts say something else of the same text: earlier archives are then refused."""

NETWORK_VERSION = 1
"""The same of the compiled step of networks, and of how blocks are coded side by side."""

STREAMS = 8
"""By default; with more the rate hardly grows, and the archive does."""

MOST_STREAMS = 64
_MOST_BITS = 24
_LARGE = ExpertsConfig(slot_bits=22, history_bits=22, index_bits=20)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What predicts.

    Attributes:
        name: canonical, as archives have it.
        experts: sizes of the experts.
        streams: most blocks that are coded side by side; 1 without a network.
        model: the model, None for goose-mini.
        checkpoint: what was learned of it, None for nothing.
    """

    name: str = EXPERTS
    experts: ExpertsConfig = ExpertsConfig()
    streams: int = 1
    model: str | None = None
    checkpoint: str | None = None

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of its networks: none, one or two."""
        return tuple(self.name.split("+")[:-1])

    @property
    def profile(self) -> Profile:
        """Whether it evaluates the same on every machine, or only where an archive was made."""
        return "native" if "[learning]" in self.name else "portable"


def method_of(
    level: str = "fast",
    *,
    method: str | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
    streams: int | None = None,
    profile: str = "portable",
) -> Method:
    """Return what a level, or a method that is named, means.

    Args:
        level: fast, default or best.
        method: its canonical name, instead of what the level mixes.
        model: the network's model, None for goose-mini.
        checkpoint: what was learned of it.
        streams: most blocks that are coded side by side.
        profile: portable, or native, where the network learns while it codes.

    Raises:
        UsageError: an option is unknown, or has no effect here.
    """
    if level not in ("fast", "default", "best"):
        raise UsageError(f"level must be fast, default or best, not {level!r}")
    base = "mini" if model in (None, EMBEDDED) else "model"
    known = _known(base, learned=checkpoint is not None, profile=profile)
    name = known[level] if method is None else method.strip()
    if name not in known.values():
        names = " or ".join(map(repr, dict.fromkeys(known.values())))
        raise UsageError(f"method {method!r} is unknown, or not one of these options: use {names}")
    _check_effect(name, model, checkpoint, streams, native=profile == "native")
    return Method(
        name=name,
        experts=_LARGE if level == "best" else ExpertsConfig(),
        streams=1 if name == EXPERTS or profile == "native" else streams or STREAMS,
        model=None if base == "mini" else model,
        checkpoint=checkpoint,
    )


def _check_effect(
    name: str, model: str | None, checkpoint: str | None, streams: int | None, *, native: bool
) -> None:
    """Refuse options without effect."""
    given = {"--model": model, "--checkpoint": checkpoint, "--streams": streams}
    unused = [option for option, value in given.items() if value is not None]
    unused += ["--profile native"] if native else []
    if name == EXPERTS and unused:
        raise UsageError(f"{unused[0]} is for a network, and experts alone have none: use --level default")
    if native and (checkpoint is not None or streams is not None):
        option = "--streams" if checkpoint is None else "--checkpoint"
        raise UsageError(f"profile native learns from the model on, one part at a time: leave out {option}")
    if checkpoint is not None and "[learned]" not in name:
        raise UsageError(f"method {name!r} does not use what was learned: leave out --checkpoint")
    if streams is not None and not 1 <= streams <= MOST_STREAMS:
        raise UsageError(f"streams must be from 1 to {MOST_STREAMS}, not {streams}")


def _known(base: str, *, learned: bool, profile: str) -> dict[str, str]:
    """Return the methods of a model with these options: those of the levels, and one for `--method` alone."""
    if profile not in get_args(Profile):
        raise UsageError(f"profile must be portable or native, not {profile!r}")
    what = "[learning]" if profile == "native" else "[learned]" if learned else ""
    both = f"{base}{what}+{base}+experts" if what else f"{base}+experts"
    known = {"fast": EXPERTS, "default": f"{base}{what}+experts", "best": both}
    return known | ({"": f"{base}+experts"} if learned else {})


@cache
def vocabulary() -> TrieTokenizer:
    """Return the vocabulary of the model that ships with sttx."""
    return TrieTokenizer(locate_model(EMBEDDED)[1] / "vocab.txt")


def header_of(
    method: Method, coder: CoderName, vocabulary_sha256: str, network: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the header of a new archive; ``network`` identifies its model, as `network_of` returns it."""
    return {
        "method": method.name,
        "coder": coder,
        "profile": method.profile,
        "network": network,
        "vocabulary": vocabulary_sha256,
        "experts_version": EXPERTS_VERSION,
        "experts": asdict(method.experts),
    }


def network_of(
    method: Method, name: str, model: str, learned: str | None, fingerprint: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a header says of a network: its model, what was learned, and where it can be computed."""
    return {
        "name": name,
        "model": model,
        "learned": learned,
        "streams": method.streams,
        "fingerprint": fingerprint,
        "version": NETWORK_VERSION,
    }


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
            f"the archive's coder is {header['coder']!r}, and this sttx knows {', '.join(CODERS)}"
        )
    name, network = header["method"], header["network"]
    options = itertools.product(("mini", "model"), (False, True), get_args(Profile))
    known = [_known(base, learned=learned, profile=profile) for base, learned, profile in options]
    if not any(name in names.values() for names in known):
        raise DataError(f"the archive's method is {name!r}, which this sttx does not know: update sttx")
    streams = 1
    if name != EXPERTS:
        _check_network(network, learned="[learned]" in name)
        streams = network["streams"]
    elif network is not None:
        raise DataError("the archive's header is damaged: its method has no network")
    method = Method(name=name, experts=_sizes(header["experts"]), streams=streams)
    _require("profile", header["profile"], method.profile)
    return method


def _check_network(network: Any, *, learned: bool) -> None:
    keys = network_of(Method(), "", "", None).keys()
    if not isinstance(network, dict) or network.keys() != keys:
        raise DataError("the archive's header is damaged: it lacks what says which network it needs")
    _require("network version", network["version"], NETWORK_VERSION)
    kinds = {"name": str, "model": str, "streams": int, "learned": str if learned else type(None)}
    right = all(type(network[name]) is kind for name, kind in kinds.items())
    if not right or not 1 <= network["streams"] <= MOST_STREAMS:
        raise DataError("the archive's header is damaged: what it says of its network is impossible")


def _require(name: str, found: Any, expected: Any) -> None:
    if found != expected:
        what = name.replace("_", " ")
        raise DataError(f"the archive's {what} is {found!r}, and this sttx decodes {expected!r} only")


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
