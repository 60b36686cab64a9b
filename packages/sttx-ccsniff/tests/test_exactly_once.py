"""Each record comes once and none is lost, with runs killed while files grow, move and are copied.

`Truth` writes records into files as agents and people do, in pieces of random size. Runs read for a while and
stop; each resumes from the cursor of the previous one.
"""

import itertools
import json
import random
import shutil
import threading
import time
from collections import Counter

import pytest

from sttx_ccsniff import open_source

pytestmark = pytest.mark.slow


class Truth:
    """Files that change, and the uuids of all whole records that were written to them."""

    def __init__(self, folder, seed):
        self.folder, self.random = folder, random.Random(seed)
        folder.mkdir()
        self.count = 0
        self.pending = {}
        self.written = []
        self.lines = []
        self.order = {}

    def files(self):
        return sorted(self.folder.rglob("*.jsonl"))

    def act(self):
        """Change the files in one random way."""
        self.random.choices(
            [self.grow, self.copy_lines, self.rename, self.replace, self.copy_file, self.remove],
            [30, 4, 2, 2, 1, 1],
        )[0]()

    def grow(self):
        """Append records to a file; the last may stay unfinished until a later call."""
        files = [path for path in self.files() if not path.name.startswith("copy")]
        if len(files) < 2 or self.random.random() < 0.1:
            self.count += 1
            path = self.folder / f"p{self.random.randrange(3)}" / f"f{self.count}.jsonl"
            path.parent.mkdir(exist_ok=True)
        else:
            path = self.random.choice(files)
        data = self.pending.pop(path, b"")
        while not data or self.random.random() < 0.5:
            data += self.record(path)
        cut = self.random.randrange(len(data) + 1) if self.random.random() < 0.5 else len(data)
        with path.open("ab") as file:
            file.write(data[:cut])
        if cut < len(data):
            self.pending[path] = data[cut:]

    def record(self, path):
        self.count += 1
        uuid = f"u{self.count}"
        word = f"Wort {self.count} äöü" + "." * self.random.randrange(200)
        message = {"content": word}
        if self.random.random() < 0.3:
            message = {"content": [{"type": "text", "text": word}, {"type": "text", "text": "and"}]}
        kind = self.random.choice(["user", "assistant"])
        if self.random.random() < 0.3:  # book-keeping, and several traces on one line
            line = json.dumps({"type": "summary", "summary": word}).encode() + b"\n"
            parts = [
                {"type": "tool_use", "name": "T", "input": {"n": n}, "id": f"{uuid}-{n}"} for n in range(3)
            ]
            kind, message = "assistant", {"content": parts}
        else:
            line = b""
        made = {"type": kind, "uuid": uuid, "sessionId": "s", "message": message}
        line += json.dumps(made, ensure_ascii=False).encode() + b"\n"
        self.written.append(uuid)
        self.lines.append(line)
        return line

    def copy_lines(self):
        """Append earlier records to a file, as a resumed session does."""
        files = [path for path in self.files() if path not in self.pending]
        if files and self.lines:
            with self.random.choice(files).open("ab") as file:
                file.writelines(self.random.sample(self.lines, min(3, len(self.lines))))

    def rename(self):
        files = self.files()
        if files:
            path = self.random.choice(files)
            self.count += 1
            target = path.with_name(f"{'copy' * path.name.startswith('copy')}renamed{self.count}.jsonl")
            path.rename(target)
            if path in self.pending:
                self.pending[target] = self.pending.pop(path)

    def replace(self):
        """Replace a file by its copy, as an editor or a backup does."""
        files = self.files()
        if files:
            path = self.random.choice(files)
            aside = path.with_suffix(".tmp")
            shutil.copyfile(path, aside)
            aside.replace(path)

    def copy_file(self):
        files = [path for path in self.files() if path not in self.pending]
        if files:
            path = self.random.choice(files)
            self.count += 1
            shutil.copyfile(path, path.with_name(f"copy{self.count}.jsonl"))

    def remove(self):
        """Delete a copy: its records are still in another file."""
        copies = [path for path in self.files() if path.name.startswith("copy") and path not in self.pending]
        for path in copies[:1]:
            path.unlink()

    def settle(self):
        """Complete all unfinished lines."""
        for path, data in self.pending.items():
            with path.open("ab") as file:
                file.write(data)
        self.pending = {}


def uuids(traces):
    return [trace.meta.uid for trace in traces]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_each_record_comes_once_whatever_happens_to_the_files(tmp_path, seed, follow):
    truth = Truth(tmp_path / "projects", seed)
    truth.grow()
    truth.grow()
    delivered, cursor = [], None
    for _ in range(25):
        for _ in range(truth.random.randrange(8)):
            truth.act()
        wanted = truth.random.choice([0, 1, 2, 3, 7, 1000])
        options = {"follow": follow, "idle_timeout": 0.15 if follow else None}
        with open_source(
            truth.folder, cursor=cursor, redact=False, say=lambda message: None, **options
        ) as source:
            for trace in source:
                delivered.append(trace)
                if len(delivered) % 5 == 0:
                    truth.act()
                wanted -= 1
                if wanted <= 0:
                    break
            cursor = json.loads(json.dumps(source.cursor))
    truth.settle()
    with open_source(truth.folder, cursor=cursor, redact=False, say=lambda message: None) as source:
        delivered += source
    counts = Counter(uuids(delivered))
    assert [uid for uid, count in counts.items() if count > 1] == [], "delivered twice"
    whole = Counter(uuids(open_source(truth.folder, redact=False, say=lambda message: None)))
    assert sorted(whole - counts) == [], "lost"
    records = {uid.partition("#")[0] for uid in counts}
    assert records == set(truth.written), "exactly the records that were written"
    assert len(truth.written) > 60


@pytest.fixture(params=["sessions", "real_sessions"])
def originals(request):
    """Return a folder of sessions: the repository's, and real ones if this machine has them."""
    return request.getfixturevalue(request.param)


class Feeder:
    """Writes copies of session files, several at a time, in pieces of random size."""

    def __init__(self, originals, folder, seed):
        self.dice = random.Random(seed)
        self.data = {path: path.read_bytes() for path in sorted(originals.rglob("*.jsonl"))}
        self.targets = {path: folder / path.relative_to(originals) for path in self.data}
        self.written = dict.fromkeys(self.data, 0)
        self.largest = max(6000, sum(map(len, self.data.values())) // 150)

    def feed(self):
        """Write one piece of up to three files; return whether any file was unfinished."""
        unfinished = [path for path in self.data if self.written[path] < len(self.data[path])]
        for path in unfinished[:3]:
            start = self.written[path]
            end = start + self.dice.randrange(1, self.largest)
            self.targets[path].parent.mkdir(parents=True, exist_ok=True)
            with self.targets[path].open("ab") as file:
                file.write(self.data[path][start:end])
            self.written[path] = end
        return bool(unfinished)


def test_two_files_of_one_name_whose_records_have_no_uuids(tmp_path):
    parts = [{"type": "tool_use", "name": "T", "input": {"n": n}, "id": str(n)} for n in range(3)]
    for folder, word in (("x", "a"), ("y", "b")):
        (tmp_path / folder).mkdir()
        record = {"type": "assistant", "message": {"content": [{**part, "name": word} for part in parts]}}
        (tmp_path / folder / "same.jsonl").write_text(json.dumps(record) + "\n")
    with open_source([tmp_path / "x", tmp_path / "y"], redact=False) as source:
        first = [trace.name + trace.id for trace in itertools.islice(source, 1)]
        cursor = json.loads(json.dumps(source.cursor))
    with open_source([tmp_path / "y", tmp_path / "x"], cursor=cursor, redact=False) as source:
        rest = [trace.name + trace.id for trace in source]
    assert first + sorted(rest) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def without_uuids(kind, word):
    if kind == "pairs":
        return {"prompt": "p", "completion": word}
    if kind == "rows":
        return {"sid": "s", "role": "user", "type": "text", "ts": 1, "text": word}
    if kind == "claude":
        return {"type": "user", "message": {"content": word}}
    if kind == "traces":
        return {"type": "user_message", "meta": {"session": "s"}, "text": word}
    content = [{"type": "input_text", "text": word}]
    return {"type": "response_item", "payload": {"type": "message", "role": "user", "content": content}}


@pytest.mark.parametrize("change", ["grown", "renamed", "rewritten"])
@pytest.mark.parametrize("kind", ["pairs", "rows", "claude", "codex", "traces"])
def test_without_uuids_reading_resumes_after_the_last_taken_trace(tmp_path, kind, change):
    def write(path, *words):
        begin = {"type": "session_meta", "payload": {"id": "s"}}
        records = [begin] * (kind == "codex") + [without_uuids(kind, word) for word in words]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def words(traces):
        return [getattr(trace, "completion", None) or trace.text for trace in traces]

    path, old = tmp_path / "a.jsonl", [f"old word {n}" for n in range(6)]
    write(path, *old)
    with open_source(tmp_path, redact=False) as source:
        taken = words(itertools.islice(source, 3))
        cursor = json.loads(json.dumps(source.cursor))
    assert taken == old[:3]
    expected = old[3:]
    if change == "grown":
        write(path, *old, "more")
        expected = [*expected, "more"]
    elif change == "renamed":
        path.rename(tmp_path / "b.jsonl")
    else:
        expected = [f"new {n} words" for n in range(6)]
        write(path, *expected)
    with open_source(tmp_path, cursor=cursor, redact=False) as source:
        assert words(source) == expected


def uuids_of(path):
    with open_source(path, redact=False, say=lambda message: None) as source:
        return uuids(source)


def test_fifty_kills_while_files_are_written_in_pieces(originals, tmp_path):
    feeder = Feeder(originals, tmp_path / "projects", 5)
    delivered, cursor, kills = [], None, 0
    more = feeder.feed()
    while more or kills < 50:
        more = feeder.feed()
        left = feeder.dice.randrange(1, 30 if kills % 5 else 10_000)
        with open_source(tmp_path, cursor=cursor, redact=False, say=lambda message: None) as source:
            delivered += uuids(itertools.islice(source, left))
            cursor = json.loads(json.dumps(source.cursor))
        kills += 1
    with open_source(tmp_path, cursor=cursor, redact=False, say=lambda message: None) as source:
        delivered += uuids(source)
    assert sorted(delivered) == sorted(uuids_of(originals))


def test_followed_while_files_are_written_in_pieces(originals, tmp_path):
    feeder = Feeder(originals, tmp_path / "projects", 6)
    whole = uuids_of(originals)
    with open_source(
        tmp_path, follow=True, idle_timeout=30, redact=False, say=lambda message: None
    ) as source:
        writer = threading.Thread(target=lambda: [time.sleep(0.004) for _ in iter(feeder.feed, False)])
        writer.start()
        delivered = uuids(itertools.islice(source, len(whole)))
        writer.join()
    assert sorted(delivered) == sorted(whole)
