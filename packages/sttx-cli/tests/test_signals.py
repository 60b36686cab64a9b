"""The first signal is a request, a later one kills; without one, the old handlers are back afterwards."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sttx_cli.signals import REPEAT, Interruptible

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers():
    """Let a hangup have its usual effect, even under `nohup`; put the handlers back after each test."""
    before = [signal.getsignal(one) for one in SIGNALS]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield [signal.getsignal(one) for one in SIGNALS]
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_a_request(number):
    calls: list[str] = []
    threads: list[threading.Thread] = []

    def release() -> None:
        threads.append(threading.current_thread())

    with Interruptible(lambda: calls.append("stop"), release) as interruptible:
        assert interruptible.signaled is None
        os.kill(os.getpid(), number)
        assert (calls, interruptible.signaled) == (["stop"], number)
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
    os.kill(os.getpid(), number)  # a repetition while the command reports
    assert calls == ["stop"]


def test_without_a_signal_nothing_is_called(handlers):
    with Interruptible(pytest.fail, pytest.fail) as interruptible:
        assert not set(handlers) & {signal.getsignal(one) for one in SIGNALS}
    assert interruptible.signaled is None
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_an_error_restores_the_handlers(handlers):
    with pytest.raises(ValueError, match="x"), Interruptible(lambda: None, lambda: None):
        raise ValueError("x")
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_a_hangup_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with Interruptible(pytest.fail, pytest.fail) as interruptible:
        os.kill(os.getpid(), signal.SIGHUP)
    assert interruptible.signaled is None


def test_another_thread_changes_no_handlers(handlers):
    seen = []

    def work() -> None:
        with Interruptible(lambda: None, lambda: None):
            seen.extend(signal.getsignal(one) for one in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == handlers


class Killed(Exception):
    """Stands for the end of this process."""


@pytest.mark.parametrize("second", SIGNALS)
def test_a_repeated_signal_is_ignored_and_a_later_one_kills(monkeypatch, second):
    times, calls = [100.0], list[str]()

    def kill(number: int) -> None:
        raise Killed(number, signal.getsignal(number))

    monkeypatch.setattr("sttx_cli.signals.signal.raise_signal", kill)
    with Interruptible(lambda: calls.append("stop"), lambda: None, clock=lambda: times[-1]) as interruptible:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), second)
        times.append(100.0 + REPEAT - 0.01)
        os.kill(os.getpid(), second)
        assert (calls, interruptible.signaled) == (["stop"], signal.SIGTERM)
        times.append(100.0 + REPEAT)
        with pytest.raises(Killed) as killed:
            os.kill(os.getpid(), second)
    assert killed.value.args == (second, signal.SIG_DFL)


def test_a_signal_inside_the_handler_is_ignored():
    calls: list[str] = []

    def clock() -> float:
        if not calls:
            calls.append("signal")
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    with Interruptible(lambda: calls.append("stop"), lambda: None, clock=clock) as interruptible:
        os.kill(os.getpid(), signal.SIGINT)
    assert (calls, interruptible.signaled) == (["signal", "stop"], signal.SIGINT)


SLOW = """
import time
from sttx_cli.signals import Interruptible
with Interruptible(lambda: None, lambda: print("asked", flush=True)):
    print("ready", flush=True)
    time.sleep(60)
"""
SAVES = """
import threading
from sttx_cli.signals import Interruptible
stopped, released = threading.Event(), threading.Event()
with Interruptible(stopped.set, released.set):
    print("ready", flush=True)
    stopped.wait(300) and released.wait(300)
    print("asked", flush=True)
    input()
    print("saved", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM)]
)
def test_a_later_signal_kills(first, second):
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == "asked\n"
        assert process.poll() is None
        time.sleep(REPEAT)
        process.send_signal(second)
        assert process.wait(300) == -second


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP)],
)
def test_signals_of_a_process_group_in_quick_succession_are_one_request(first, second):
    """As under `uv run`, where one signal to the group comes twice: from the group, and forwarded by uv."""
    command, pipe = [sys.executable, "-c", SAVES], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, first)
        os.killpg(process.pid, second)
        assert process.stdout.readline() == "asked\n"
        os.killpg(process.pid, second)
        output, _ = process.communicate("\n", timeout=300)
        assert (process.returncode, output) == (0, "saved\n")


LATE = """
import os, signal
from sttx_cli.signals import Interruptible

class Late:
    def __del__(self, kill=os.kill, me=os.getpid()):  # runs when Python has restored the default handlers
        kill(me, signal.SIGINT)

with Interruptible(lambda: None, lambda: None):
    os.kill(os.getpid(), signal.SIGINT)
late = Late()
"""


def test_a_signal_that_is_repeated_while_python_ends_is_ignored():
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
