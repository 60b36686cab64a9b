"""Watching sessions: what each round of a tool call and its result costs, and an alarm for loops."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.watch.alarm import AlarmConfig, LoopAlarm, Verdict
    from sttx_train.watch.clipping import clipped
    from sttx_train.watch.pricing import Pricer
    from sttx_train.watch.rounds import Round, RoundMaker, Said
    from sttx_train.watch.waiting import waits
    from sttx_train.watch.watcher import Watched, Watcher

__all__ = [
    "AlarmConfig",
    "LoopAlarm",
    "Pricer",
    "Round",
    "RoundMaker",
    "Said",
    "Verdict",
    "Watched",
    "Watcher",
    "clipped",
    "waits",
]

__getattr__ = lazy_names(
    __name__,
    {
        "alarm": ["AlarmConfig", "LoopAlarm", "Verdict"],
        "clipping": ["clipped"],
        "pricing": ["Pricer"],
        "rounds": ["Round", "RoundMaker", "Said"],
        "waiting": ["waits"],
        "watcher": ["Watched", "Watcher"],
    },
)
