"""The loop over a stream of traces, and how the stream is cut into windows."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.stream.config import StreamConfig
    from sttx_train.stream.totals import Progress, Totals
    from sttx_train.stream.trainer import StreamTrainer
    from sttx_train.stream.windows import TraceWindows

__all__ = [
    "Progress",
    "StreamConfig",
    "StreamTrainer",
    "Totals",
    "TraceWindows",
]

__getattr__ = lazy_names(
    __name__,
    {
        "config": ["StreamConfig"],
        "totals": ["Progress", "Totals"],
        "trainer": ["StreamTrainer"],
        "windows": ["TraceWindows"],
    },
)
