"""What the background service runs: two commands, with their options, folder and limits. Starts nothing."""

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sttx_core.errors import UsageError

_SIZE = re.compile(r"([1-9][0-9]{0,8})([KMGT])?")
_POWERS = {None: 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What the service does, and within which limits.

    Attributes:
        port: port of this machine's own address on which it serves; 0 takes a free one, which its log names.
        learn: learn from what users send in chats as well, for each user apart.
        memory_high: memory above which the service is slowed down, such as 3G.
        memory_max: memory above which the service is ended and started again from its last checkpoint.
    """

    port: int = 8080
    learn: bool = False
    memory_high: str = "3G"
    memory_max: str = "4G"

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port must be from 0 to 65535, not {self.port!r}")
        if size_of("--memory-high", self.memory_high) > size_of("--memory-max", self.memory_max):
            raise UsageError(
                f"--memory-high {self.memory_high!r} must not be more than --memory-max {self.memory_max!r}"
            )


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    """Everything that an installed service was given.

    Attributes:
        folder: keeps the run, the states and the logs.
        sources: what is followed.
        model: the model; None for the one that comes with sttx.
        config: its options.
    """

    folder: Path
    sources: tuple[str, ...]
    model: str | None
    config: ServiceConfig

    @property
    def run(self) -> Path:
        """Folder of the run that follows and learns."""
        return self.folder / "run"

    @property
    def states(self) -> Path:
        """Folder of the states of conversations and users."""
        return self.folder / "states"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.folder / "logs"

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.config.port}"

    def command(self) -> list[str]:
        """Return the command that the system starts: `sttx service run` with this plan's options."""
        config = [
            option
            for name, value in asdict(self.config).items()
            for option in _as_option(name.replace("_", "-"), value)
        ]
        return _sttx("service", "run", *self.sources, "--dir", str(self.folder), *self._model(), *config)

    def children(self) -> dict[str, list[str]]:
        """Return the commands that the service runs, by name: what learns, and what serves."""
        resumes = ["--resume"] if (self.run / "latest").exists() else []
        train = ["train", *self.sources, "--follow", "--checkpoint-dir", str(self.run), *resumes]
        serve = ["serve", "--run", str(self.run), "--port", str(self.config.port)]
        serve += ["--state-store", str(self.states), *(["--learn"] if self.config.learn else [])]
        return {name: _sttx(*rest, *self._model()) for name, rest in (("train", train), ("serve", serve))}

    def _model(self) -> list[str]:
        return [] if self.model is None else ["--model", self.model]


def size_of(option: str, text: str) -> int:
    """Return bytes from a size as systemd writes it.

    Args:
        option: that gives it, for messages.
        text: a whole number, with K, M, G or T for powers of 1,024.

    Raises:
        UsageError: it is something else.

    >>> size_of("--memory-max", "4G")
    4294967296
    """
    if (match := _SIZE.fullmatch(text)) is None:
        raise UsageError(f"{option} must be a size such as 4G or 900M, not {text!r}")
    return int(match[1]) * 1024 ** _POWERS[match[2]]


def _as_option(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _sttx(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sttx_cli", *arguments]


def absolute_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """Return sources with absolute paths: the system starts a service in another folder."""
    return tuple(str(Path(name).resolve()) if Path(name).exists() else name for name in sources)
