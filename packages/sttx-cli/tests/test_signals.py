"""The first signal is a request, the second kills; afterwards the old handlers are back."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from sttx_cli.signals import Interruptible

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_a_request(number):
    calls: list[str] = []
    threads: list[threading.Thread] = []

    def release() -> None:
        threads.append(threading.current_thread())

    before = [signal.getsignal(one) for one in SIGNALS]
    with Interruptible(lambda: calls.append("stop"), release) as interruptible:
        assert interruptible.signaled is None
        os.kill(os.getpid(), number)
        assert (calls, interruptible.signaled) == (["stop"], number)
        assert [signal.getsignal(one) for one in SIGNALS] == [signal.SIG_DFL] * 2
    assert len(threads) == 1 and threads[0] is not threading.main_thread()
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_without_a_signal_nothing_is_called():
    before = [signal.getsignal(one) for one in SIGNALS]
    with Interruptible(pytest.fail, pytest.fail) as interruptible:
        assert [signal.getsignal(one) for one in SIGNALS] != before
    assert interruptible.signaled is None
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_an_error_restores_the_handlers():
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(ValueError, match="x"), Interruptible(lambda: None, lambda: None):
        raise ValueError("x")
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_another_thread_changes_no_handlers():
    before = [signal.getsignal(one) for one in SIGNALS]
    seen = []

    def work() -> None:
        with Interruptible(lambda: None, lambda: None):
            seen.extend(signal.getsignal(one) for one in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before


SLOW = """
import sys, time
from sttx_cli.signals import Interruptible
with Interruptible(lambda: None, lambda: print("asked", flush=True)):
    print("ready", flush=True)
    time.sleep(60)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM)]
)
def test_the_second_kills(first, second):
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == "asked\n"
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(30) == -second
