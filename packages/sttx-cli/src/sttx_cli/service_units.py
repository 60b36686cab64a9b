"""The files by which a system starts the service: systemd's unit, launchd's property list. Runs nothing."""

import json
import plistlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sttx_cli.service_plan import ServiceConfig, ServicePlan
from sttx_cli.threads import NICE

NAME = "sttx"
_WEIGHT = 20  # of the service where 100 is usual
_STOPPING = 120  # seconds for the step and the last checkpoint
_AGAIN = 10  # seconds until it is started again
_TITLE = "sttx: follows sessions, learns and serves"
_PLAN = "SttxPlan"


def systemd_unit(plan: ServicePlan, environment: Mapping[str, str]) -> str:
    """Return a unit for a user's systemd.

    Args:
        plan: what runs.
        environment: variables that it is to have.
    """
    variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items())
    return f"""\
# Written by `sttx service install`, which replaces it.
[Unit]
Description={_TITLE}

[Service]
Type=exec
ExecStart={" ".join(_quoted(part, dollar=True) for part in plan.command())}
{variables}\
# A wrong option (2) does not get better; after everything else it continues from its last checkpoint.
Restart=always
RestartSec={_AGAIN}
RestartPreventExitStatus=2
KillMode=mixed
TimeoutStopSec={_STOPPING}
Nice={NICE}
CPUWeight={_WEIGHT}
IOSchedulingClass=idle
MemoryHigh={plan.config.memory_high}
MemoryMax={plan.config.memory_max}
NoNewPrivileges=yes

[Install]
WantedBy=default.target

[X-Sttx]
{_PLAN}={_as_json(plan)}
"""


def plan_of_unit(text: str) -> ServicePlan | None:
    """Return the plan that a unit was made from; None if it has none."""
    lines = [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{_PLAN}=")]
    return _from_json(lines[-1]) if lines else None


def launchd_plist(plan: ServicePlan, environment: Mapping[str, str]) -> bytes:
    """Return a property list for a user's launchd.

    launchd limits no memory: the service watches `memory_max` itself.

    Args:
        plan: what runs.
        environment: variables that it is to have.
    """
    fields = {
        "Label": NAME,
        "ProgramArguments": plan.command(),
        "EnvironmentVariables": dict(environment),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": _AGAIN,
        "ExitTimeOut": _STOPPING,
        "ProcessType": "Background",
        "Nice": NICE,
        "LowPriorityIO": True,
        "LowPriorityBackgroundIO": True,
        _PLAN: _as_json(plan),
    }
    return plistlib.dumps(fields)


def plan_of_plist(data: bytes) -> ServicePlan | None:
    """Return the plan that a property list was made from; None if it has none."""
    try:
        text = plistlib.loads(data).get(_PLAN)
    except (plistlib.InvalidFileException, ValueError, AttributeError):
        return None
    return _from_json(text) if isinstance(text, str) else None


def _quoted(text: str, *, dollar: bool = False) -> str:
    r"""Return a word as systemd reads it back: in quotes, with its specifiers and variables escaped.

    Args:
        text: the word.
        dollar: whether variables are replaced there, as in commands.

    >>> print(_quoted('50% of "a $b"', dollar=True))
    "50%% of \"a $$b\""
    """
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{text.replace("$", "$$") if dollar else text}"'


def _as_json(plan: ServicePlan) -> str:
    fields = {"folder": str(plan.folder), "sources": plan.sources, "model": plan.model}
    return json.dumps(fields | {"config": asdict(plan.config)})


def _from_json(text: str) -> ServicePlan | None:
    try:
        fields: Any = json.loads(text)
        return ServicePlan(
            folder=Path(fields["folder"]),
            sources=tuple(fields["sources"]),
            model=fields["model"],
            config=ServiceConfig(**fields["config"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
