"""Fixtures: short records in Claude Code's format, and folders of sessions."""

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")  # slow examples are not failures: the machine may be busy

Record = dict[str, Any]


@pytest.fixture
def record() -> Callable[..., Record]:
    """Return a function that makes a record of a session, each with its own uuid."""
    count = itertools.count(1)

    def make(kind: str = "user", content: Any = None, **fields: Any) -> Record:
        made: Record = {
            "type": kind,
            "uuid": f"uuid-{next(count)}",
            "sessionId": "s",
            "cwd": "/home/ada/orchard",
            "timestamp": "2026-02-02T09:00:00.500Z",
        }
        if content is not None:
            made["message"] = {"role": kind, "content": content}
        return made | fields

    return make


@pytest.fixture(scope="session")
def real_sessions() -> Path:
    """Return a folder of real sessions, which some machines have beside the checkout, never in it."""
    beside = (folder / "shared" / "traces" for folder in Path(__file__).parents)
    found = next((folder for folder in beside if folder.is_dir()), None)
    if found is None:
        pytest.skip("no folder of real sessions beside this checkout")
    return found


@pytest.fixture
def session_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes records (or raw lines) into a file."""

    def write(name: str, *records: Record | bytes, end: bytes = b"\n") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
        path.write_bytes(b"\n".join(lines) + end)
        return path

    return write


@pytest.fixture(scope="session")
def sessions() -> Path:
    """Return the folder of the repository's session files."""
    for folder in Path(__file__).parents:
        if (folder / "test-data" / "sessions").is_dir():
            return folder / "test-data" / "sessions"
    raise FileNotFoundError("test-data/sessions is not above this file")


@pytest.fixture(scope="session")
def read_with_handover() -> Callable[..., list[Any]]:
    """Return a function that reads each line with a new parser, which gets the state of the one before."""

    def read(kind: type, origin: str, lines: Iterable[bytes]) -> list[Any]:
        seen, state, traces = Seen(), None, []
        for line in lines:
            parser = kind(origin, SourceReport(say=lambda message: None), seen)
            if state is not None:
                parser.load_state_dict(json.loads(state))  # passed as JSON, as a cursor passes it
            traces += parser.feed(line)
            state = json.dumps(parser.state_dict())
        return traces

    return read
