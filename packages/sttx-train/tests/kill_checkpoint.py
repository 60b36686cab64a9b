"""Kills writers of checkpoints and checks what they leave. test_checkpoint.py runs it in its own process.

`everywhere` kills a forked writer before its first, second, … operation on the file system; `random` kills
writers that save in a loop, at random moments. It prints the number of kills and the last step. Forking saves
each writer the import of torch.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sttx_train.checkpoint.store import CheckpointStore

TENSORS = {"learned": 20_000, "optimizer": 50_000}
OPERATIONS = (
    "open",
    "os.chmod",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "shutil.rmtree",
)


def save(store: CheckpointStore, step: int, run: int) -> None:
    tensors = {stem: {"x": torch.full((size,), float(step))} for stem, size in TENSORS.items()}
    store.save(step, tensors=tensors, documents={"progress": {"step": step}}, manifest={"run": run})


def verify(store: CheckpointStore) -> int:
    """Verify every byte of the latest checkpoint and return its step; -1 if there is none."""
    folder = store.latest()
    if folder is None:
        return -1
    checkpoint = store.load()
    assert checkpoint.path == folder
    assert checkpoint.documents == {"progress": {"step": checkpoint.step}}
    for stem, size in TENSORS.items():
        assert torch.equal(checkpoint.tensors[stem]["x"], torch.full((size,), float(checkpoint.step)))
    for other in store.directory.glob("step-*"):
        store.load(other)  # every folder with a checkpoint's name is complete
    return checkpoint.step


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def kill_everywhere(store: CheckpointStore) -> int:
    """Kill the writer before the first, second, … operation of two saves; the second replaces the first."""
    kills = 0
    while True:
        before = verify(store)

        def work(allowed: int = kills, step: int = before + 1) -> None:
            left = [allowed]

            def hook(event: str, arguments: tuple) -> None:
                if event in OPERATIONS and str(store.directory) in str(arguments[0]):
                    left[0] -= 1
                    if left[0] < 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            save(store, step, run=1)
            save(store, step, run=2)

        _, status = os.waitpid(forked(work), 0)
        after = verify(store)
        assert before <= after <= before + 1, (kills, before, after)
        if status == 0:
            assert store.load().manifest["run"] == 2
            return kills
        assert os.WIFSIGNALED(status), f"the writer failed at operation {kills}"
        kills += 1


def kill_at_random(store: CheckpointStore) -> int:
    """Kill 20 writers, each of which continues after the previous one."""
    dice = random.Random(0)
    for kills in range(20):
        before = verify(store)

        def work(step: int = before) -> None:
            while True:
                step += 1
                save(store, step, run=1)
                if step % 3 == 0:
                    save(store, step, run=2)

        child = forked(work)
        time.sleep(dice.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer failed"
        assert verify(store) >= before, kills
    return 20


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = CheckpointStore(Path(sys.argv[2]), keep=2)
    kills = {"everywhere": kill_everywhere, "random": kill_at_random}[sys.argv[1]](target)
    save(target, verify(target) + 1, run=3)
    names = {path.name for path in target.directory.iterdir()}
    assert not any(name.startswith(".writing-") for name in names), names
    print(kills, verify(target))  # noqa: T201
