"""Several processes equal one with as many rows: the same losses, and any number of them can resume."""

import hashlib
import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch

from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.data.documents import Packed
from sttx_train.formats import load_model
from sttx_train.pretrain import PretrainConfig, Pretrainer
from sttx_train.run_folder import BEST

WORKER = Path(__file__)
CONFIG = {
    "vocab_size": 13,
    "hidden_size": 32,
    "layers": 2,
    "head_size": 16,
    "ctx": 16,
    "lr": 6e-3,
    "warmup": 2,
    "steps": 10,
    "schedule": "constant",
    "checkpoint_every": 4,
    "eval_every": 4,
    "validation": 0.2,
    "bf16": False,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux"),
]


def documents():
    """Return twelve documents that follow a rule: each counts up and starts again."""
    rows = (np.arange(49) + np.arange(12)[:, None]) % 12 + 1
    return Packed(np.concatenate([np.zeros((12, 1), int), rows], axis=1).ravel())


def work(directory, options):
    """Act as one process of a run that `torchrun` starts; the first process writes the result."""
    trainer = Pretrainer(PretrainConfig(**options["config"]), directory, resume=options["resume"])
    losses = [step.loss for step in trainer.steps(documents())]
    own = hashlib.sha256(b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values()))
    Path(f"{options['out']}.{trainer.trainer.workers.rank}").write_text(own.hexdigest())
    if trainer.trainer.workers.is_first:
        validation = trainer.trainer.best.loss
        trainer.save_model(Path(options["out"]).with_suffix(".model"))
        Path(options["out"]).write_text(json.dumps({"losses": losses, "validation": validation}))


def options_of(directory, **options):
    return {"config": CONFIG | options, "resume": directory.exists(), "out": f"{directory}.json"}


def result_of(directory):
    return json.loads(directory.with_suffix(".json").read_text())


def serve():
    """Start the processes of each run that a line on standard input asks for, as `torchrun` would.

    They are forks of this process, which has imported torch once: an import takes longer than a run.
    """
    for name in ("torch._dynamo", "torch.distributed.fsdp"):  # imported where a model is first shared
        importlib.import_module(name)
    for line in sys.stdin:
        directory, count, options = json.loads(line)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children = []
        for rank in range(count):
            child = os.fork()
            if not child:
                os.environ.update(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                work_and_leave(directory, options)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


def work_and_leave(directory, options):
    """Work and end, but not through the interpreter.

    Torch keeps the FSDP mesh and its threads, which abort there about once in a hundred times.
    """
    try:
        work(directory, options)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    sys.stderr.flush()
    os._exit(0)


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}  # a crash shows where it was
PYTHON = [sys.executable, "-W", "ignore"]


@pytest.fixture(scope="module")
def launched():
    """Return a function that runs a worker in several processes and returns the first one's result."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*PYTHON, str(WORKER)], env=ENVIRONMENT, **pipes) as server:

        def launch(directory, processes, **options):
            server.stdin.write(
                json.dumps([str(directory), processes, options_of(directory, **options)]) + "\n"
            )
            server.stdin.flush()
            assert json.loads(server.stdout.readline()) == [0] * processes
            return result_of(directory)

        yield launch
        server.stdin.close()


def launched_by_torchrun(directory, processes, **options):
    """Run a worker in several processes as a user does; return the first one's result."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*PYTHON, *launch, str(WORKER), str(directory), json.dumps(options_of(directory, **options))],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-9000:]
    return result_of(directory)


def alone(directory, **options):
    """Run the same in this process."""
    trainer = Pretrainer(PretrainConfig(**(CONFIG | options)), directory, resume=directory.exists())
    losses = [step.loss for step in trainer.steps(documents())]
    return {"losses": losses, "validation": trainer.trainer.best.loss}


def test_two_processes_equal_one_with_twice_the_batch_and_resume_its_run(tmp_path, launched):
    """Two processes with a part of the weights each, then one alone, then two with all weights."""
    whole = alone(tmp_path / "whole", batch=4)
    two = launched(tmp_path / "run", 2, batch=2, steps=4, parallel="fsdp")
    assert two["losses"] == pytest.approx(whole["losses"][:4], rel=1e-4)
    best = CheckpointStore(tmp_path / "run" / BEST).load().tensors["model"]
    for name, weight in load_model(tmp_path / "run.model").model.state_dict().items():
        assert torch.equal(weight, best[name])
    one = alone(tmp_path / "run", batch=2, accumulate=2, steps=7)
    assert one["losses"] == pytest.approx(whole["losses"][4:7], rel=1e-4)
    again = launched(tmp_path / "run", 2, batch=1, accumulate=2, parallel="ddp")
    assert again["losses"] == pytest.approx(whole["losses"][7:], rel=1e-4)
    assert again["validation"] == pytest.approx(whole["validation"], rel=1e-4)


def test_phrases_resume_with_another_number_of_processes(tmp_path, launched):
    options = {"phrase_prob": 0.5}
    whole = alone(tmp_path / "whole", batch=4, **options)
    assert alone(tmp_path / "run", batch=4, steps=3, **options)["losses"] == whole["losses"][:3]
    two = launched(tmp_path / "run", 2, batch=1, accumulate=2, steps=7, **options)
    assert two["losses"] == pytest.approx(whole["losses"][3:7], rel=1e-4)
    one = alone(tmp_path / "run", batch=2, accumulate=2, **options)
    assert one["losses"] == pytest.approx(whole["losses"][7:], rel=1e-4)


def test_two_processes_share_one_clock(tmp_path):
    """The learning rate falls with time, and both processes still have the same weights."""
    launched_by_torchrun(tmp_path / "run", 2, steps=0, minutes=0.02, schedule="cosine", warmup=0)
    assert len({(tmp_path / f"run.json.{rank}").read_text() for rank in range(2)}) == 1


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        work_and_leave(sys.argv[1], json.loads(sys.argv[2]))
