"""Random writes, splits, replacements, renames and kills, against a model of what must be delivered."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import time

import pytest

from sttx_ccsniff import Source
from sttx_ccsniff.follow.feed import FolderFeed
from sttx_ccsniff.live import feed as live_feed
from sttx_ccsniff.live.feed import LiveFeed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]

WATCHER = """
import fs from 'node:fs';
import path from 'node:path';
import { EventEmitter } from 'node:events';
export class JsonlWatcher extends EventEmitter {
  constructor(dir) { super(); this._dir = dir; }
  start() {
    this._scan(this._dir);
    this._watcher = fs.watch(this._dir, { recursive: true }, (_, f) => {
      if (f && f.endsWith('.jsonl')) this._debounce(path.join(this._dir, f));
    });
    return this;
  }
  stop() { this._watcher.close(); }
  _scan(dir) {
    for (const name of fs.readdirSync(dir, { recursive: true })) this._debounce(path.join(dir, name));
  }
  _debounce(fp) {}
}
"""


class Model:
    """Files as their writer knows them: the lines of each, and how much of the last one is written."""

    def __init__(self, folder, seed):
        self.folder, self.random = folder, random.Random(seed)
        self.lines, self.halves, self.written = {}, {}, []
        self.count = 0

    def step(self, feed):
        name = f"f{self.random.randrange(4)}.jsonl"
        operations = (
            [self.append] * 6 + [self.half] * 3 + [self.rewrite, self.replace, self.recreate, self.rename]
        )
        self.random.choice(operations)(name)
        if self.random.random() < 0.03 and feed._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(feed._child.process.pid, signal.SIGKILL)

    def path(self, name):
        return self.folder / name

    def line(self):
        self.count += 1
        record = {
            "type": "user",
            "uuid": str(self.count),
            "message": {"content": "日" * self.random.randrange(1, 40)},
        }
        self.written.append(str(self.count))
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"

    def write(self, name, data, mode="ab"):
        with self.path(name).open(mode, buffering=0) as file:
            file.write(data)

    def append(self, name):
        new = [self.line() for _ in range(self.random.randrange(1, 30))]
        self.write(name, self.halves.pop(name, b"") + b"".join(new))
        self.lines.setdefault(name, []).extend(new)

    def half(self, name):
        """Write the first or next part of a line, which counts as a line from then on."""
        rest = self.halves.get(name)
        if not rest:
            rest = self.line()
            self.lines.setdefault(name, []).append(rest)
        cut = self.random.randrange(1, len(rest) + 1)
        self.write(name, rest[:cut])
        self.halves[name] = rest[cut:]

    def whole(self, name):
        self.halves.pop(name, None)
        return b"".join(self.lines.setdefault(name, []))

    def rewrite(self, name):
        """Rewrite a file in place, with one line more; the uuids show the repeats."""
        self.lines.setdefault(name, []).insert(0, self.line())
        self.write(name, self.whole(name), "wb")

    def replace(self, name):
        aside = self.folder / "aside"
        aside.write_bytes(self.whole(name))
        aside.replace(self.path(name))

    def recreate(self, name):
        data = self.whole(name)
        self.path(name).unlink(missing_ok=True)
        self.write(name, data)

    def rename(self, name):
        other = f"r{self.count}-{self.random.random()}.jsonl"
        if self.path(name).exists():
            self.write(name, self.halves.pop(name, b""))
            self.path(name).rename(self.path(other))
            self.lines[other] = self.lines.pop(name, [])

    def finish(self):
        for name, rest in self.halves.items():
            self.write(name, rest)


@pytest.mark.parametrize("seed", range(3))
def test_every_record_is_delivered_once(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(live_feed, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(live_feed, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(live_feed, "_MAX_FAILURES", 100)
    folder = tmp_path / "projects"
    folder.mkdir()
    (tmp_path / "index.mjs").write_text(WATCHER)
    shim = str(live_feed.__file__).replace("feed.py", "shim.mjs")
    command = [str(shutil.which("node")), shim, str(tmp_path / "index.mjs"), str(folder)]
    model, got, cursor = Model(folder, seed), [], None
    for number in range(4):
        native = number == 2  # one of the runs reads the files directly
        feed = FolderFeed([folder], "native", follow=True) if native else LiveFeed(folder, command=command)
        with Source([feed], cursor=cursor, idle_timeout=10, capacity=8, say=lambda message: None) as source:
            for _ in range(30):
                model.step(feed if not native else LiveFeed(folder))
                time.sleep(model.random.choice([0, 0, 0.005, 0.03]))
                if model.random.random() < 0.4 and len(got) + 30 < len(model.written):
                    got += [next(source).meta.uid for _ in range(model.random.randrange(20))]
            if number == 3:
                model.finish()
                source._idle_timeout = 60.0  # a busy machine may be slow
                got += [trace.meta.uid for trace in itertools.islice(source, len(model.written) - len(got))]
                source._idle_timeout = 1.0
                got += [trace.meta.uid for trace in source]
            cursor = json.loads(json.dumps(source.cursor))
    assert sorted(got, key=int) == model.written
