"""Several processes share the steps of a stream: as one process with as many windows, killed or resumed."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sttx_core.errors import DataError, UsageError
from sttx_core.phrases import PhraseConfig
from sttx_train.checkpoint.store import CheckpointStore
from sttx_train.evaluate import Evaluation, help_evaluate, score_traces
from sttx_train.formats import load_model
from sttx_train.online import LearnerConfig
from sttx_train.online.sharing import share_of
from sttx_train.predict import Predictor
from sttx_train.predict.shared import SharedReading
from sttx_train.run_folder import METRICS
from sttx_train.stream import StreamConfig, StreamTrainer
from sttx_train.stream.batching import settle_batch
from sttx_train.stream.trainer import TIME_FIELDS
from sttx_train.workers import Workers, joined

LEARNING = {"phrases": "off", "replay_rows": 2, "max_documents": 4}
LOST = 3  # exit code of a process that says that another one is gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")


def trainer_of(folder, options, workers=None):
    """Return a trainer for a run in a folder, which also holds the model and the traces."""
    return StreamTrainer(
        load_model(folder / "model", dtype=torch.float64),
        LearnerConfig(**(LEARNING | options.get("learning", {}))),
        StreamConfig(**({"window": 32, "checkpoint_every": 3, "batch": 4} | options.get("stream", {}))),
        directory=folder / options["run"],
        phrase_config=PhraseConfig(pair_window=64, capacity=16),
        resume=(folder / options["run"]).exists(),
        history=options.get("history", False),
        workers=workers,
    )


def left_traces(folder, trainer):
    """Return the traces that the run has not taken yet."""
    had, left = dict(trainer.taken), []
    for trace in pickle.loads((folder / "traces").read_bytes()):
        had[trace.meta.origin] = had.get(trace.meta.origin, 0) - 1
        left += [trace] if had[trace.meta.origin] < 0 else []
    return left


def adapted(folder, workers=None):
    """Return what each trace costs with outer steps, as :func:`scored` does."""
    return scored(folder, workers, state_lr=0.3)


def scored(folder, workers=None, *, state_lr=0.0):
    """Return what each trace costs; with several processes, those that are not the first return None."""
    predictor = Predictor(load_model(folder / "model", dtype=torch.float64), window=16, state_lr=state_lr)
    networks = SharedReading(predictor, workers) if workers else None
    if networks and not workers.is_first:
        return networks.help()
    traces = pickle.loads((folder / "traces").read_bytes())
    with networks.asking() if networks else contextlib.nullcontext():
        found = score_traces(predictor, traces, batch=100, documents=3, networks=networks)
        return [[one.bits, one.network_bits, one.bytes] for one in found]


def evaluated(folder, workers=None):
    """Return the report of three arms, without what differs from run to run, as :func:`scored` does."""
    if workers and not workers.is_first:
        return help_evaluate(workers)
    traces = pickle.loads((folder / "traces").read_bytes())
    model = str(folder / "model")
    evaluation = Evaluation(load_model(model), traces, model=model, arms=("frozen", "experts", "paid"))
    report = evaluation.run(processes=workers)
    for arm in report["arms"].values():
        del arm["seconds"], arm["memory_mb"]
    return report | {"sentences": None}


def work(folder, options):
    """Act as one process of a run that `torchrun` starts."""
    with joined(torch.device("cpu")) as workers:
        if options["run"] in ("scored", "adapted", "evaluated"):
            found = globals()[options["run"]](folder, workers)
            if workers.is_first:
                (folder / "found.json").write_text(json.dumps(found))
            return
        trainer = trainer_of(folder, options, workers)
        if workers.rank == options.get("killed"):
            step = trainer.predictor.step

            def killing(windows):
                if trainer.totals.steps == options["at"]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(windows)

            trainer.predictor.step = killing
        trainer.run(left_traces(folder, trainer) if workers.is_first else [])


def serve():
    """Start the processes of each run that a line on standard input asks for.

    They are forks of this process, which has imported torch once. Its store has a port that the system chose,
    as the store of `torchrun` has.
    """
    for number, line in enumerate(sys.stdin):
        folder, count, options = json.loads(line)
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": str(number)}
        children = []
        for rank in range(count):
            if not (child := os.fork()):
                os.environ.update(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
                work_and_leave(Path(folder), options)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


def work_and_leave(folder, options):
    """Work and end, but not through the interpreter, which would wait for the threads of the parent."""
    try:
        work(folder, options)
    except DataError as error:
        os._exit(LOST if "another process of this run has ended" in str(error) else 1)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@pytest.fixture(scope="module")
def launched():
    """Return a function that runs several processes in a folder and returns their exit codes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-W", "ignore", str(Path(__file__))]
    with subprocess.Popen(command, env=environment, **pipes) as server:

        def launch(folder, processes, **options):
            server.stdin.write(json.dumps([str(folder), processes, options]) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield launch
        server.stdin.close()


@pytest.fixture
def folder(tiny, talk, tmp_path):
    """Return a folder with a model, and traces of five sessions: those of one process end early."""
    shutil.copytree(tiny().path, tmp_path / "model")
    traces = talk(60, sessions=5, seed=3)
    mine = {trace.meta.session for trace in traces if share_of(trace.document, 2)}
    assert 0 < len(mine) < 5
    early = [trace for number, trace in enumerate(traces) if number < 24 or trace.meta.session not in mine]
    (tmp_path / "traces").write_bytes(pickle.dumps(early))
    return tmp_path


def alone(folder, **options):
    trainer = trainer_of(folder, options)
    trainer.run(left_traces(folder, trainer))


def assert_same_run(folder, one, other):
    """Compare what two runs paid and learned: equal up to the rounding of float64."""
    ours, theirs = (
        [json.loads(line) for line in (folder / run / METRICS).read_text().splitlines()]
        for run in (one, other)
    )
    assert len(ours) == len(theirs) > 9
    for row, expected in zip(ours, theirs, strict=True):
        prices, others = row.pop("bpb"), expected.pop("bpb")
        assert prices.keys() == others.keys()
        assert [*filter(None, prices.values())] == pytest.approx([*filter(None, others.values())], rel=1e-7)
        for field in TIME_FIELDS:
            del row[field], expected[field]
        assert row == pytest.approx(expected, rel=1e-6)
    saved, wanted = (CheckpointStore(folder / run).load() for run in (one, other))
    for file, tensors in wanted.tensors.items():
        assert saved.tensors[file].keys() == tensors.keys()
        for name, tensor in tensors.items():
            if file != "experts":  # integers and adapted rates, from inputs that rounding has touched
                torch.testing.assert_close(saved.tensors[file][name], tensor, rtol=1e-5, atol=1e-7)
    assert saved.documents["phrases"] == wanted.documents["phrases"]
    assert saved.documents["stream"]["windows"] == wanted.documents["stream"]["windows"]


@pytest.mark.parametrize(
    "options",
    [
        {"history": True},
        {"learning": {"phrases": "on"}},
        {"learning": {"scope": ("state", "bias", "vectors"), "loss": "mixed", "replay_rows": 5}},
        {"learning": {"inject": "start", "frozen": False}, "stream": {"experts": "off", "batch": 2}},
        {"learning": {"state_lr": 0.3}},
    ],
    ids=["history", "phrases", "mixed", "start", "outer"],
)
def test_two_processes_equal_one_with_as_many_windows(folder, launched, options):
    alone(folder, run="one", **options)
    assert launched(folder, 2, run="two", **options) == [0, 0]
    assert_same_run(folder, "two", "one")


@pytest.mark.parametrize("learning", [{}, {"state_lr": 0.3}], ids=["plain", "outer"])
def test_a_run_resumes_with_another_number_of_processes(folder, launched, learning):
    alone(folder, run="whole", learning=learning)
    alone(folder, run="run", learning=learning, stream={"steps": 4})
    assert launched(folder, 2, run="run", learning=learning, stream={"steps": 7}) == [0, 0]
    assert launched(folder, 4, run="run", learning=learning, stream={"steps": 9}) == [0] * 4
    alone(folder, run="run", learning=learning)
    assert_same_run(folder, "run", "whole")
    saved = CheckpointStore(folder / "run").load().documents["learner"].get("offsets")
    assert bool(saved) == bool(learning)


@pytest.mark.parametrize("killed", [0, 1])
def test_after_a_kill_the_others_end_and_the_run_resumes(folder, launched, killed):
    codes = launched(folder, 2, run="run", killed=killed, at=7)
    assert codes == [-signal.SIGKILL if rank == killed else LOST for rank in range(2)]
    assert CheckpointStore(folder / "run").load().step == 6
    alone(folder, run="run")
    alone(folder, run="whole")
    assert_same_run(folder, "run", "whole")


def assert_near(found, expected):
    """Compare values of JSON: numbers up to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = [found[name] for name in expected], list(expected.values())
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-6) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("what", [scored, adapted, evaluated])
def test_processes_that_share_documents_or_arms_find_what_one_finds(folder, launched, what):
    assert launched(folder, 2, run=what.__name__) == [0, 0]
    found = json.loads((folder / "found.json").read_text())
    assert_near(found, json.loads(json.dumps(what(folder))))
    assert what is not adapted or found != json.loads(json.dumps(scored(folder)))


def test_what_several_processes_cannot_share_is_refused(folder):
    with pytest.raises(UsageError, match="--batch 4 is not a multiple of the 3 processes"):
        trainer_of(folder, {"run": "run"}, Workers(rank=0, count=3))
    with pytest.raises(UsageError, match="--memory bank needs all states in one process"):
        trainer_of(folder, {"run": "run", "stream": {"memory": "bank"}}, Workers(rank=1, count=2))


def test_the_number_of_windows_is_settled_once():
    auto = StreamConfig()
    assert settle_batch(auto, history=False)[0].batch == 1
    assert settle_batch(auto, history=True, processes=3)[0].batch == 3
    assert settle_batch(auto, history=True, saved=6, processes=3)[0].batch == 6
    assert settle_batch(StreamConfig(batch=2), history=True, saved=6)[0].batch == 2


if __name__ == "__main__":
    serve()
