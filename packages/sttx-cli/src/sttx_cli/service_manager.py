"""Asks the system to start and stop the service: a user's systemd, or launchd on macOS."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sttx_cli.environment import config_home
from sttx_cli.service_plan import ServicePlan
from sttx_cli.service_units import NAME, launchd_plist, plan_of_plist, plan_of_unit, systemd_unit
from sttx_core.errors import SttxError
from sttx_core.own_files import replacing_file

_SECONDS = 180  # for a command of the system


class Manager(Protocol):
    """What starts services here.

    Attributes:
        path: the file that describes the service.
    """

    path: Path

    def text(self, plan: ServicePlan, environment: Mapping[str, str]) -> str:
        """Return the file's content."""
        ...

    def plan(self) -> ServicePlan | None:
        """Return the plan of the installed service; None if there is none."""
        ...

    def check(self) -> None:
        """Raise `SttxError` if no services can be started for this user."""
        ...

    def install(self, plan: ServicePlan, environment: Mapping[str, str]) -> None:
        """Write the file and start the service, now and at each login; replace an earlier one."""
        ...

    def stop(self) -> None:
        """Stop the service, until the next login or `install`."""
        ...

    def uninstall(self) -> None:
        """Stop the service and remove its file."""
        ...

    def state(self) -> str:
        """Return what the system says of the service, in a few words."""
        ...


class Systemd:
    """The systemd of this user."""

    def __init__(self) -> None:
        self.path = config_home() / "systemd" / "user" / f"{NAME}.service"

    def text(self, plan: ServicePlan, environment: Mapping[str, str]) -> str:
        """Return the unit."""
        return systemd_unit(plan, environment)

    def plan(self) -> ServicePlan | None:
        """Return the plan of the installed unit."""
        return plan_of_unit(self.path.read_text("utf-8")) if self.path.is_file() else None

    def check(self) -> None:
        """Raise `SttxError` if no systemd runs for this user."""
        found = _output(["systemctl", "--user", "show-environment"])
        if isinstance(found, str):
            raise SttxError(
                f"no systemd runs for this user ({found}): log in to a session that has one, or run "
                "`sttx service run` yourself"
            )

    def install(self, plan: ServicePlan, environment: Mapping[str, str]) -> None:
        """Write, enable and start the unit."""
        self.check()
        with replacing_file(self.path, private=True) as aside:
            aside.write_text(self.text(plan, environment), "utf-8")
        self._do("daemon-reload")
        self._do("enable", f"{NAME}.service")
        self._do("restart", f"{NAME}.service")

    def stop(self) -> None:
        """Stop the unit."""
        self.check()
        self._do("stop", f"{NAME}.service")

    def uninstall(self) -> None:
        """Stop, disable and remove the unit."""
        self.check()
        self._do("disable", "--now", f"{NAME}.service")
        self.path.unlink(missing_ok=True)
        self._do("daemon-reload")

    def state(self) -> str:
        """Return its states and how often it was started again."""
        self.check()
        names = ("ActiveState", "SubState", "Result", "NRestarts", "MemoryCurrent")
        shown = self._do("show", f"{NAME}.service", f"--property={','.join(names)}")
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        state = f"{found.get('ActiveState', 'unknown')} ({found.get('SubState', 'unknown')})"
        if found.get("Result", "success") != "success":
            state += f", ended by {found['Result']}"
        return f"{state}, started again {found.get('NRestarts', '0')} times"

    def _do(self, *arguments: str) -> str:
        return _done(["systemctl", "--user", *arguments])


class Launchd:
    """The launchd of this user."""

    def __init__(self) -> None:
        self.path = Path.home() / "Library" / "LaunchAgents" / f"{NAME}.plist"
        self._domain = f"gui/{os.getuid()}"

    def text(self, plan: ServicePlan, environment: Mapping[str, str]) -> str:
        """Return the property list."""
        return launchd_plist(plan, environment).decode()

    def plan(self) -> ServicePlan | None:
        """Return the plan of the installed property list."""
        return plan_of_plist(self.path.read_bytes()) if self.path.is_file() else None

    def check(self) -> None:
        """Raise `SttxError` if no launchd runs for this user."""
        if isinstance(found := _output(["launchctl", "print", self._domain]), str):
            raise SttxError(
                f"no launchd runs for this user ({found}): log in to a session that has one, or run "
                "`sttx service run` yourself"
            )

    def install(self, plan: ServicePlan, environment: Mapping[str, str]) -> None:
        """Write and load the property list."""
        self.check()
        self._unload()
        with replacing_file(self.path, private=True) as aside:
            aside.write_bytes(launchd_plist(plan, environment))
        _done(["launchctl", "bootstrap", self._domain, str(self.path)])

    def stop(self) -> None:
        """Unload the property list."""
        self.check()
        self._unload()

    def uninstall(self) -> None:
        """Unload and remove the property list."""
        self.stop()
        self.path.unlink(missing_ok=True)

    def state(self) -> str:
        """Return its state."""
        self.check()
        found = _output(["launchctl", "print", f"{self._domain}/{NAME}"])
        if isinstance(found, str):
            return "not loaded"
        lines = [line.strip() for line in found.decode(errors="replace").splitlines()]
        states = [line.partition("=")[2].strip() for line in lines if line.startswith("state =")]
        return states[0] if states else "unknown"

    def _unload(self) -> None:
        if not isinstance(_output(["launchctl", "print", f"{self._domain}/{NAME}"]), str):
            _done(["launchctl", "bootout", f"{self._domain}/{NAME}"])


def this_manager() -> Manager:
    """Return what starts services on this system.

    Raises:
        SttxError: sttx knows none here.
    """
    if sys.platform == "linux":
        return Systemd()
    if sys.platform == "darwin":
        return Launchd()
    raise SttxError(
        "services are started by systemd or launchd, and this system has neither: run "
        "`sttx service run` yourself"
    )


def _output(command: Sequence[str]) -> bytes | str:
    """Return what a command of the system prints; in words why there is nothing, if it fails."""
    try:
        found = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        return f"there is no {command[0]}"
    except subprocess.TimeoutExpired:
        return f"{command[0]} does not answer"
    if found.returncode == 0:
        return found.stdout
    lines = found.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{command[0]} ends with {found.returncode}"


def _done(command: Sequence[str]) -> str:
    """Return what a command of the system prints.

    Raises:
        SttxError: it fails.
    """
    if isinstance(found := _output(command), str):
        raise SttxError(f"`{' '.join(command)}` fails: {found}")
    return found.decode(errors="replace")
