"""Compiles the experts before they are used, so that a command can say what it waits for."""

import numpy as np

from sttx_core.experts.config import ExpertsConfig
from sttx_core.experts.entry import entry_points
from sttx_core.experts.experts import Experts
from sttx_core.experts.kept import is_kept
from sttx_core.experts.rows import rows_without_experts

_SMALL = ExpertsConfig(slot_bits=8, history_bits=10, index_bits=4)
_EVEN = np.log(np.full((1, 2), 0.5))


def experts_are_compiled(*, choosing: bool = False) -> bool:
    """Return whether `compile_experts` has nothing to compile, and with ``choosing`` `compile_choosing`."""
    points = entry_points()
    needed = [points.read, *([points.open, points.walk] if choosing else [])]
    return all(map(is_kept, needed))


def compile_experts() -> None:
    """Compile what reads now rather than when it is first used; half a minute, once on a machine."""
    experts = Experts([b"", b"a"], _SMALL)
    experts.read(experts.document(), _EVEN, np.array([1]), _EVEN, slopes=np.zeros((1, experts.depth)))


def compile_choosing() -> None:
    """Compile what says of the next token; as `compile_experts`."""
    experts = Experts([b"", b"a"], _SMALL)
    following = experts.next_token(experts.document(), _EVEN[0], _EVEN[0])
    following.walk(0.5, np.arange(3))
    following.log_probs()


def compile_coding() -> None:
    """Compile what codes; as `compile_experts`."""
    experts = Experts([b"", b"a"], _SMALL)
    data = experts.encode(experts.document(), np.array([1]))
    experts.decode(experts.document(), data, 1)
    for rows in (experts.rows(1), rows_without_experts([b"", b"a"], 1)):
        rows.start_encoding(1)
        rows.start(0)
        rows.code(np.array([1]), np.zeros((1, 2), np.float32))
        rows.payload(0)
        rows.start_decoding(data)
        rows.start(0, 0, len(data))
