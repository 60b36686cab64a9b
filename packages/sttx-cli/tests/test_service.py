"""`sttx service`: the files for systemd and launchd, what they run, and what is asked of the system."""

import errno
import os
import plistlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sttx_cli.environment import SERVICE_VARIABLES
from sttx_cli.service_manager import Launchd, Systemd, this_manager
from sttx_cli.service_plan import ServiceConfig, ServicePlan
from sttx_cli.service_report import service_report
from sttx_cli.service_units import launchd_plist, plan_of_plist, plan_of_unit, systemd_unit
from sttx_cli.supervisor import RotatingLog, Supervisor
from sttx_core.errors import SttxError, UsageError

SECONDS = 300
ODD = 'a "b" $HOME 50% \\ é'

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


def plan_of(folder, *sources, **config):
    return ServicePlan(folder=Path(folder), sources=sources, model=None, config=ServiceConfig(**config))


# --- files for the system


@pytest.fixture
def short():
    """Return an empty folder with a short name: systemd has sockets in it, whose paths are bounded."""
    with tempfile.TemporaryDirectory(prefix="sttx-", dir="/tmp") as folder:
        yield Path(folder)


def complaints(unit, folder):
    """Return what systemd says of a unit; nothing if it understands all of it."""
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    path = folder / "sttx.service"
    path.write_text(unit)
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
    command = [program, "--user", "verify", str(path)]
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return found.stdout + found.stderr + (f"exit code {found.returncode}" if found.returncode else "")


@on_linux
@pytest.mark.parametrize("folder", ["/var/tmp/sttx", f"/var/tmp/{ODD}"])
def test_systemd_understands_the_unit(folder, short):
    unit = systemd_unit(plan_of(folder, "claude", f"/x/{ODD}"), {"PATH": f"/bin:{ODD}"})
    assert complaints(unit, short) == ""


@on_linux
@pytest.mark.parametrize(("right", "wrong"), [("Nice=10", "Nice=ten"), ("MemoryMax=", "MemoryMux=")])
def test_what_systemd_does_not_understand_is_noticed(right, wrong, short):
    unit = systemd_unit(plan_of("/var/tmp/sttx", "claude"), {})
    assert right in unit and complaints(unit.replace(right, wrong), short)


def test_the_unit_states_priority_and_memory():
    unit = systemd_unit(plan_of("/x", "claude", memory_high="900M", memory_max="2G"), {"A": "b"})
    lines = unit.splitlines()
    for line in (
        "Nice=10",
        "CPUWeight=20",
        "IOSchedulingClass=idle",
        "MemoryHigh=900M",
        "MemoryMax=2G",
        "Restart=always",
        "RestartPreventExitStatus=2",
        'Environment="A=b"',
    ):
        assert line in lines
    (command,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    assert command.startswith(f'"{sys.executable}" "-m" "sttx_cli" "service" "run" "claude" "--dir" "/x"')


@pytest.mark.parametrize("learn", [True, False])
def test_the_plan_is_read_back_from_both_files(learn):
    plan = ServicePlan(
        folder=Path(f"/x/{ODD}"),
        sources=("claude", ODD),
        model=ODD,
        config=ServiceConfig(port=9, learn=learn, memory_high="1G", memory_max="2G"),
    )
    assert plan_of_unit(systemd_unit(plan, {"A": ODD})) == plan
    plist = launchd_plist(plan, {"A": ODD})
    assert plan_of_plist(plist) == plan
    fields = plistlib.loads(plist)
    assert fields["ProgramArguments"] == plan.command() and fields["EnvironmentVariables"] == {"A": ODD}
    assert (fields["Label"], fields["Nice"], fields["LowPriorityIO"]) == ("sttx", 10, True)
    assert fields["RunAtLoad"] is fields["KeepAlive"] is True
    assert (f"--{'' if learn else 'no-'}learn" in plan.command()) and (
        "--learn" in plan.children()["serve"]
    ) is learn


@pytest.mark.parametrize("text", ["", "SttxPlan=", "SttxPlan={}", 'SttxPlan={"folder": 1}', "SttxPlan=[]"])
def test_a_file_without_a_plan(text):
    assert plan_of_unit(text) is None and plan_of_plist(text.encode()) is None
    assert plan_of_plist(plistlib.dumps({"SttxPlan": text.partition("=")[2]})) is None


@pytest.mark.skipif(shutil.which("plutil") is None, reason="plutil is macOS's")
def test_macos_understands_the_property_list(tmp_path):
    path = tmp_path / "sttx.plist"
    path.write_bytes(launchd_plist(plan_of("/x", ODD), {}))
    subprocess.run(["plutil", "-lint", str(path)], check=True, timeout=SECONDS)


# --- what is asked of the system


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Put programs in the place of the system's; return a function that says what they were asked."""
    programs, asked = tmp_path / "programs", tmp_path / "asked"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def make(name, script):
        path = programs / name
        path.write_text(f'#!/bin/sh\necho "$*" >>"{asked}"\n{script}\n')
        path.chmod(0o755)
        return lambda: asked.read_text().splitlines() if asked.exists() else []

    return make


SHOWN = """
case "$2" in
show) printf 'ActiveState=active\\nSubState=running\\nResult=success\\nNRestarts=2\\n' ;;
esac
"""


@on_linux
def test_install_status_stop_and_uninstall(sttx, system, sessions, tmp_path):
    asked = system("systemctl", SHOWN)
    folder = tmp_path / "kept"
    result = sttx("service", "install", sessions, "--dir", folder, "--port", 8123, "--memory-max", "5G")
    assert result.code == 0 and "http://127.0.0.1:8123" in result.err, result.err
    unit = tmp_path / "home" / ".config" / "systemd" / "user" / "sttx.service"
    assert [line for line in asked() if "show-environment" not in line] == [
        "--user daemon-reload",
        "--user enable sttx.service",
        "--user restart sttx.service",
    ]
    assert "MemoryMax=5G" in unit.read_text() and stat.S_IMODE(unit.stat().st_mode) == 0o600
    assert plan_of_unit(unit.read_text()).sources == (str(sessions),)
    for name in SERVICE_VARIABLES:
        assert (f'Environment="{name}=' in unit.read_text()) is bool(os.environ.get(name))
    shown = sttx("service", "status", "--json")
    assert shown.code == 0 and shown.json["state"] == "active (running), started again 2 times"
    assert (shown.json["url"], shown.json["folder"]) == ("http://127.0.0.1:8123", str(folder))
    assert shown.json["step"] is None and shown.json["disk_bytes"] == {"run": 0, "states": 0, "logs": 0}
    assert "active (running)" in sttx("service", "status").out
    assert sttx("service", "stop").code == 0 and asked()[-1] == "--user stop sttx.service"
    folder.mkdir()
    removed = sttx("service", "uninstall")
    assert removed.code == 0 and str(folder) in removed.err
    assert asked()[-2:] == ["--user disable --now sttx.service", "--user daemon-reload"]
    assert not unit.exists() and folder.exists()
    again = sttx("service", "uninstall")
    assert again.code == 2 and "no service is installed" in again.err
    assert "not installed" in sttx("service", "status").out


@on_linux
@pytest.mark.parametrize("arguments", [("install",), ("stop",), ("uninstall",), ("status",)])
def test_without_a_systemd_there_is_one_sentence(sttx, system, sessions, tmp_path, arguments):
    system("systemctl", "echo 'Failed to connect to bus: No medium found' >&2; exit 1")
    given = [sessions] if arguments == ("install",) else []
    result = sttx("service", *arguments, *given)
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert "no systemd runs for this user (Failed to connect to bus: No medium found)" in result.err
    assert not (tmp_path / "home" / ".config").exists()


@on_linux
def test_a_system_without_systemctl(sttx, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = sttx("service", "stop")
    assert result.code == 1 and "there is no systemctl" in result.err


@on_linux
def test_what_the_system_refuses_is_reported(sttx, system, sessions):
    system("systemctl", 'case "$2" in enable) echo "no such unit" >&2; exit 1 ;; esac')
    result = sttx("service", "install", sessions)
    assert result.code == 1 and "`systemctl --user enable sttx.service` fails: no such unit" in result.err


def test_launchd_is_asked_the_same(system, tmp_path):
    asked = system(
        "launchctl", f'case "$1 $2" in "print gui/{os.getuid()}/sttx") echo "	state = running" ;; esac'
    )
    manager, plan = Launchd(), plan_of(tmp_path / "kept", "claude")
    domain = f"gui/{os.getuid()}"
    manager.install(plan, {})
    assert asked() == [
        f"print {domain}",
        f"print {domain}/sttx",
        f"bootout {domain}/sttx",
        f"bootstrap {domain} {manager.path}",
    ]
    assert manager.path == tmp_path / "home" / "Library" / "LaunchAgents" / "sttx.plist"
    assert manager.plan() == plan and manager.state() == "running"
    assert plistlib.loads(manager.text(plan, {}).encode()) == plistlib.loads(manager.path.read_bytes())
    manager.stop()
    assert asked()[-1] == f"bootout {domain}/sttx" and manager.path.exists()
    manager.uninstall()
    assert not manager.path.exists() and manager.plan() is None


def test_without_a_launchd_there_is_one_sentence(system):
    system("launchctl", "exit 113")
    for act in (Launchd().check, Launchd().stop, Launchd().state):
        with pytest.raises(SttxError, match="no launchd runs for this user"):
            act()


def test_the_manager_is_that_of_the_system(monkeypatch):
    for platform, expected in (("linux", Systemd), ("darwin", Launchd)):
        monkeypatch.setattr("sys.platform", platform)
        assert type(this_manager()) is expected
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SttxError, match="this system has neither"):
        this_manager()


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a source to follow"),
        (["-"], "no standard input"),
        (["nowhere"], "nowhere"),
        (["claude", "--port", "70000"], "--port must be from 0 to 65535"),
        (["claude", "--memory-max", "lots"], "--memory-max must be a size such as 4G"),
        (["claude", "--memory-high", "5G"], "--memory-high '5G' must not be more than --memory-max '4G'"),
        (["claude", "--model", "nobody"], "no model at 'nobody'"),
    ],
)
@on_linux
def test_what_is_refused(sttx, system, arguments, message):
    asked = system("systemctl", "")
    result = sttx("service", "install", *arguments)
    assert result.code == 2 and message in result.err, result.err
    assert not [line for line in asked() if "show-environment" not in line]


# --- the command of the unit


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def read(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.timeout(900)  # three processes at low priority
def test_the_command_of_the_unit_follows_learns_and_serves_from_the_same_checkpoint(
    sttx, base, sessions, tiny_model, tmp_path
):
    folder, talk = tmp_path / "kept", tmp_path / "talk.jsonl"
    lines = sessions.read_text().splitlines(keepends=True)
    talk.write_text("".join(lines[:40]))
    source = [str(talk) if part == str(sessions) else part for part in base if part != "--json"]
    before = sttx(*source[: source.index("--steps")], "--steps", 4, "--checkpoint-dir", folder / "run")
    assert before.code == 0, before.err
    plan = ServicePlan(
        folder=folder, sources=(str(talk),), model=str(tiny_model), config=ServiceConfig(port=0)
    )
    log, learning = plan.logs / "serve.log", plan.logs / "train.log"
    service = subprocess.Popen(plan.command(), stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: "listening on " in read(log) and "resumed: at step 4" in read(learning))
        assert "serving: " in read(log) and ":run@" in read(log) and "step 4" in read(log)
        talk.write_text("".join(lines))  # the session goes on
        until(lambda: (service_report(plan)["step"] or 0) > 4)
    finally:
        service.send_signal(signal.SIGTERM)
        _, said = service.communicate(timeout=SECONDS)
    assert service.returncode == 0 and "ended: stopped" in said and "killed" not in said, said
    shown = sttx("service", "status", "--dir", folder, "--json").json
    assert shown["saved_step"] == shown["step"] > 4 and shown["bpb"]["paid"] > 0
    assert shown["disk_bytes"]["run"] > 1000 and shown["disk_bytes"]["logs"] > 100
    assert "stopping: requests that are not answered" in read(log)


def test_a_command_that_cannot_start_is_named_and_a_wrong_option_is_not_tried_again(sttx, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("not a run")
    result = sttx("service", "run", "claude", "--dir", tmp_path, "--port", 0)
    assert result.code == 2 and "train has ended with exit code 2" in result.err
    assert "no run of sttx" in result.err and str(tmp_path / "logs" / "train.log") in result.err


# --- the supervisor

WAITS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in (("_TICK", 0.05), ("_MEMORY_EVERY", 0.1), ("_VERSION_EVERY", 0.1), ("_GRACE", 0.5)):
        monkeypatch.setattr(f"sttx_cli.supervisor.{name}", seconds)


def supervised(commands, logs, **more):
    return Supervisor(commands, logs, **({"memory": 10**12, "say": lambda text: None} | more))


def gone(process):
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_if_one_command_ends_all_end(quick, tmp_path):
    ends = [sys.executable, "-c", "import sys; print('no such thing'); sys.exit(7)"]
    supervisor = supervised({"one": WAITS, "other": ends}, tmp_path)
    ended = supervisor.run()
    assert (ended.name, ended.code) == ("other", 7)
    assert all(map(gone, supervisor._running.values()))
    assert (tmp_path / "other.log").read_text() == "no such thing\n"


def test_an_upgrade_ends_it_so_that_it_is_started_again(quick, tmp_path):
    versions = iter(["1.0", "1.0", None, "2.0"])
    supervisor = supervised({"one": WAITS}, tmp_path, installed=lambda: next(versions))
    ended = supervisor.run()
    assert ended.name is None and ended.reason == "sttx was upgraded from 1.0 to 2.0"
    assert all(map(gone, supervisor._running.values()))


def test_too_much_memory_ends_it(quick, tmp_path):
    ended = supervised({"one": WAITS}, tmp_path, memory=1000).run()
    assert ended.name is None and "more than 1,000" in ended.reason


def test_a_command_that_does_not_end_is_killed(quick, tmp_path):
    said, logs = [], tmp_path / "one.log"

    def stop_when_up():
        if logs.exists():
            supervisor.stop()
        return "1.0"

    supervisor = supervised({"one": STUBBORN}, tmp_path, say=said.append, installed=stop_when_up)
    ended = supervisor.run()
    assert ended.reason == "stopped" and "one does not end: it is killed" in said
    assert all(map(gone, supervisor._running.values()))


def test_a_command_that_is_not_there_ends_the_others(quick, tmp_path):
    supervisor = supervised({"one": WAITS, "other": [str(tmp_path / "nothing")]}, tmp_path)
    with pytest.raises(FileNotFoundError):
        supervisor.run()
    assert all(map(gone, supervisor._running.values()))


def test_logs_are_bounded_and_private(tmp_path):
    log = RotatingLog(tmp_path / "a.log", limit=100, files=3)
    for number in range(50):
        log.write(b"line %02d\n" % number)
    log.write(b"x" * 1000)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(found) == ["a.log", "a.log.1", "a.log.2"] and max(map(len, found.values())) <= 100
    assert found["a.log.1"].endswith(b"line 49\n") and found["a.log"] == b"x" * 100
    assert (found["a.log.2"] + found["a.log.1"]).count(b"\n") == len(found["a.log.2"] + found["a.log.1"]) // 8
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


def test_a_log_that_cannot_rotate_closes_its_file_once(tmp_path):
    log = RotatingLog(tmp_path / "a.log", limit=100, files=3)
    log.write(b"x" * 90)
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.1" / "in the way").touch()
    (tmp_path / "a.log.2").write_text("")
    with pytest.raises(OSError) as error:
        log.write(b"y" * 90)
    assert error.value.errno != errno.EBADF, "another thread may have got the number of a closed file"


FULL, LINK = OSError(28, "No space left on device"), UsageError("it is a link")


@pytest.mark.parametrize("error", [FULL, LINK])
def test_a_log_that_cannot_be_written_does_not_hold_a_command_up(quick, tmp_path, monkeypatch, error):
    def fails(self, line):
        raise error

    monkeypatch.setattr(RotatingLog, "write", fails)
    prints = [sys.executable, "-c", "for _ in range(5000): print('x' * 100)"]
    ended = supervised({"one": prints}, tmp_path).run()
    assert (ended.name, ended.code) == ("one", 0)


def test_sizes():
    for text in ("", "0", "-1", "4GB", "1.5G", "4g", " 4G"):
        with pytest.raises(UsageError):
            ServiceConfig(memory_max=text)
    assert ServiceConfig(memory_high="1K", memory_max="1M").memory_max == "1M"


# --- what is said of the folder


def test_the_report_takes_the_last_whole_row(tmp_path):
    plan = plan_of(tmp_path, "claude")
    assert service_report(plan)["step"] is None
    plan.run.mkdir()
    metrics = plan.run / "metrics.jsonl"
    for text, step in (
        ("", None),
        ('{"step": 1}\n', 1),
        ('{"step": 1}\n{"step": 2', 1),
        ("[]\n", None),
        ("x\n", None),
    ):
        metrics.write_text(text)
        assert service_report(plan)["step"] == step
    row = '{"step": 7, "bpb": {"paid": 0.5}, "bytes": 10}\n'
    metrics.write_text("x" * 100_000 + "\n" + row)
    found = service_report(plan)
    assert (found["step"], found["bpb"], found["bytes"]) == (7, {"paid": 0.5}, 10)
    assert found["disk_bytes"] == {"run": 100_001 + len(row), "states": 0, "logs": 0}
