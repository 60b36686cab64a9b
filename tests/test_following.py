"""`sttx train` follows a growing folder, is killed several times, and learns from each record once."""

import json
import random
import subprocess
import sys
import time

import pytest

from sttx_ccsniff import open_source
from sttx_core.render import render
from sttx_train.checkpoint.store import CheckpointStore

SECONDS = 60.0


class Agent:
    """Writes sessions as an agent does: part of a line now, the rest later."""

    def __init__(self, folder):
        self.folder, self.dice, self.count, self.rest = folder, random.Random(3), 0, {}
        folder.mkdir()

    def write(self, records):
        for _ in range(records):
            self.count += 1
            path = self.folder / f"{'abc'[self.count % 3]}.jsonl"
            text = f"record {self.count} " + "of some length " * self.dice.randrange(4, 12)
            record = {"type": "user", "uuid": f"u{self.count}", "message": {"content": text}}
            data = self.rest.pop(path, b"") + json.dumps(record).encode() + b"\n"
            cut = self.dice.randrange(len(data)) if self.count % 2 else len(data)
            self.append(path, data[:cut])
            self.rest[path] = data[cut:]

    def finish(self):
        for path, data in self.rest.items():
            self.append(path, data)

    def append(self, path, data):
        with path.open("ab") as file:
            file.write(data)


def train(folder, run, model, *options):
    line = [sys.executable, "-m", "sttx_cli", "train", "--ccsniff-from", str(folder), "--model", str(model)]
    line += ["--checkpoint-dir", str(run), "--checkpoint-every", "1", "--window", "128", *options]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def steps(run):
    saved = [int(path.name.removeprefix("step-")) for path in run.glob("step-*") if path.suffix == ""]
    return max(saved, default=-1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_while_it_follows(tiny_model, tmp_path):
    agent, run = Agent(tmp_path / "projects"), tmp_path / "run"
    agent.write(12)
    for kill in range(3):
        before = steps(run)
        process = train(agent.folder, run, tiny_model, "--follow", *(["--resume"] if before >= 0 else []))
        end = time.monotonic() + SECONDS
        while steps(run) < before + 3:
            assert process.poll() is None and time.monotonic() < end, f"kill {kill}: no further steps"
            agent.write(1)
            time.sleep(0.5)
        process.kill()
        process.communicate()
    agent.finish()
    last = train(agent.folder, run, tiny_model, "--resume", "--no-follow", "--json")
    report = json.loads(last.communicate(timeout=SECONDS)[0])
    with open_source(agent.folder) as source:
        texts = [render(trace) for trace in source]
    assert len(texts) == agent.count
    assert report["bytes"] == sum(map(len, texts)), "every byte is paid for once"
    taken = CheckpointStore(run).load().documents["stream"]["taken"]
    assert sum(taken.values()) == agent.count
