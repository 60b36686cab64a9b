"""The recipe of goose-mini's corpus: sources, sessions that quote their files truthfully, and packing."""

import json
import random
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sttx_core.render import render
from sttx_train.coding import primer
from sttx_train.stream.windows import TraceWindows

RECIPE = Path(__file__).parents[1] / "recipes" / "goose_mini"
LABEL = re.compile(r"(User|Assistant): |Tool (call|result|error): \w+")

PYTHON = '''"""Reads settings."""

import json
from pathlib import Path


class Settings:
    """Values by name."""

    def __init__(self, values: dict) -> None:
        self.values = values
        self.limit = 10

    def value_of(self, name: str, default: str = "") -> str:
        """A value, or the default."""
        return self.values.get(name, default)


def load_settings(path: Path) -> Settings:
    """Reads a file of settings."""
    if not path.exists():
        return Settings({})
    return Settings(json.loads(path.read_text()))


def count_{n}(settings: Settings) -> int:
    """How many there are."""
    total = len(settings.values) + {n}
    print("counted", total)
    return total
'''


@pytest.fixture
def files() -> list[dict]:
    rows = [
        {
            "package": "demo",
            "path": f"demo-1.0/src/part_{n}.py",
            "kind": "python",
            "text": PYTHON.replace("{n}", str(n)) * 3,
        }
        for n in range(6)
    ]
    prose = (
        "# Demo\n\nThe settings are read when the program starts. Nothing else is.\n\n- Fix the empty files\n"
    )
    return [*rows, {"package": "demo", "path": "demo-1.0/README.md", "kind": "prose", "text": prose * 20}]


def play(recipe: dict[str, ModuleType], files: list[dict], seed: int = 1, size: int = 120_000) -> list[str]:
    book = recipe["phrasebook"].Phrasebook(row for row in files if row["kind"] == "prose")
    return [row["text"] for row in recipe["transcripts"].generate(files, size, seed, book)]


def traces(recipe: dict[str, ModuleType], files: list[dict], seed: int):
    book = recipe["phrasebook"].Phrasebook(row for row in files if row["kind"] == "prose")
    scene = recipe["scene"].Scene(random.Random(seed), "demo", files, book, [])
    scene.session.client, scene.session.windows = recipe["clients"].Client(random.Random(1), ""), ""
    any(recipe["playing"].play_task(scene) for _ in range(6))
    return scene.session


NAMES = [
    f"{first}{second}"
    for first in ("load", "keep", "send", "find")
    for second in ("Page", "Row", "Key", "Name")
]

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: Expat

Files: src/gpl/*
 tools/*.py
Copyright: 2020 B
License: GPL-2+
 Text.

License: Expat
 Permission is hereby granted.
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Debian source package as `apt-get source --download-only` leaves it."""
    files = {
        "demo-1.2/src/a.go": "package a\n",
        "demo-1.2/src/gpl/b.go": "package b\n",
        "demo-1.2/tools/x.py": "import os\n",
        "demo-1.2/picture.png": "x",
    }
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "demo_1.2-3.dsc").write_text("Format: 3.0 (quilt)\n")
    debian = {"debian/copyright": COPYRIGHT, "debian/rules.py": "import sys\n"}
    for name, texts in (("orig", files), ("debian", debian)):
        path = folder / (f"demo_1.2.{name}.tar.gz" if name == "orig" else f"demo_1.2-3.{name}.tar.gz")
        for inner, text in texts.items():
            target = tmp_path / name / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        with tarfile.open(path, "w:gz") as bundle:
            for inner in texts:
                bundle.add(tmp_path / name / inner, inner)
    return folder


def test_a_source_package_gives_its_permissive_files(recipe: dict[str, ModuleType], source: Path) -> None:
    gather = recipe["gather"]
    members = dict(gather.members_of(source))
    assert set(members) == {
        "package/src/a.go",
        "package/src/gpl/b.go",
        "package/tools/x.py",
        "package/debian/copyright",
    }
    assert gather.version_of("source", source) == "1.2-3"
    licence, kept = gather.permissive_part(members, "", ["Expat"])
    assert (licence, set(kept)) == ("Expat", {"package/src/a.go"})
    assert gather.permissive_part(members, "", ["BSD"])[1] == {}
    del members["package/debian/copyright"]
    assert gather.permissive_part(members, "", ["Expat"]) == ("", {})
    assert set(gather.permissive_part(members, "MIT", ["Expat"])[1]) == set(members)


def test_the_same_seed_gives_the_same_sessions_and_another_seed_others(
    recipe: dict[str, ModuleType], files: list[dict]
) -> None:
    first = play(recipe, files)
    assert play(recipe, files) == first
    assert play(recipe, files, seed=2) != first


def test_every_turn_has_a_label(recipe: dict[str, ModuleType], files: list[dict]) -> None:
    for text in play(recipe, files):
        assert text.endswith("\n\n")
        for turn in text[:-2].split("\n\n"):
            assert LABEL.match(turn), turn[:80]


def test_calls_are_json_and_are_followed_by_their_result(
    recipe: dict[str, ModuleType], files: list[dict]
) -> None:
    for text in play(recipe, files):
        turns = text[:-2].split("\n\n")
        for turn, answer in zip(turns, [*turns[1:], ""], strict=True):
            if turn.startswith("Tool call: "):
                name, _, arguments = turn.removeprefix("Tool call: ").partition(" ")
                assert isinstance(json.loads(arguments), str if arguments.startswith('"') else dict)
                assert re.match(rf"Tool (result|error): {re.escape(name)}(\n|$)", answer)


@pytest.mark.parametrize("seed", range(8))
def test_reads_and_edits_show_the_files_real_text(
    recipe: dict[str, ModuleType], files: list[dict], seed: int
) -> None:
    session = traces(recipe, files, seed)
    now = _initial(session, files)
    reads = edits = 0
    for use, result in _calls(session.traces):
        path = use.input.get("file_path", "")
        if use.name == "Read":
            shown = re.findall(r"^ *(\d+)[\t→](.*)$", result.output.split("\n\n<system-reminder>")[0], re.M)
            lines = now[path].split("\n")
            assert all(lines[int(number) - 1] == line for number, line in shown)
            reads += len(shown)
        elif use.name == "Edit" and not result.is_error:
            old, new = use.input["old_string"], use.input["new_string"]
            assert old in now[path] and old != new
            now[path] = now[path].replace(old, new, -1 if use.input.get("replace_all") else 1)
            edits += 1
        elif use.name == "MultiEdit":
            for item in use.input["edits"]:
                assert item["old_string"] in now[path]
                now[path] = now[path].replace(item["old_string"], item["new_string"], 1)
        elif use.name == "Write":
            now[path] = use.input["content"]
    assert now == session.files
    assert reads > 0


def _initial(session, files: list[dict]) -> dict[str, str]:
    return {f"{session.root}/{row['path'].removeprefix('demo-1.0/')}": row["text"] for row in files}


def _calls(rows) -> Iterator[tuple]:
    for use, result in zip(rows, rows[1:], strict=False):
        if type(use).__name__ == "ToolUse":
            assert (use.id, use.name) == (result.id, result.name)
            yield use, result


def test_a_diff_applies_to_what_was_committed(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    session = recipe["session"].Session(random.Random(1), "/app/demo", {"a.py": PYTHON, "b.py": PYTHON})
    session.edit("/app/demo/a.py", "self.limit = 10", "self.limit = 12")
    session.edit("/app/demo/a.py", "import json\n", "import json\nimport os\n")
    assert session.changed() == ["/app/demo/a.py"]
    (tmp_path / "a.py").write_text(PYTHON)
    subprocess.run(["git", "apply", "-"], input=session.diff() + "\n", text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a.py").read_text() == session.files["/app/demo/a.py"]
    assert session.diff_stat().endswith("1 file changed, 2 insertions(+), 1 deletions(-)")
    session.commit()
    assert session.diff() == ""


def test_grep_finds_what_is_there(recipe: dict[str, ModuleType]) -> None:
    session = recipe["session"].Session(
        random.Random(3), "/app/demo", {"a.py": "one\ntwo\nthree\n", "b.py": "four\n"}
    )
    assert session._matches("two", 0, numbers=True) == ["a.py:2:two"]
    assert session._matches("two", 1, numbers=True) == ["a.py-1-one", "a.py:2:two", "a.py-3-three"]
    assert session.grep("two") == ["/app/demo/a.py"]
    assert session.grep("nine") == []


@pytest.mark.parametrize(
    "kind", ["python", "typescript", "javascript", "go", "rust", "c", "csharp", "java", "ruby", "json"]
)
@pytest.mark.parametrize("fails", [False, True])
def test_runners_name_the_file_and_say_whether_they_failed(
    recipe: dict[str, ModuleType], kind: str, fails: bool
) -> None:
    runners = recipe["runners"]
    source = runners.Source("/home/x/demo", "src/settings.py", PYTHON, ["Settings", "load_settings"])
    for seed in range(12):
        command, output, code = runners.run(random.Random(seed), kind, source, fails)
        assert command
        assert isinstance(output, str)
        if not fails:
            assert code == 0


def test_proposed_changes_occur_once(recipe: dict[str, ModuleType]) -> None:
    made = [
        recipe["changes"].propose(random.Random(seed), PYTHON, "python", ["Why."], [PYTHON])
        for seed in range(200)
    ]
    found = [change for change in made if change]
    assert len(found) > 150
    assert all(
        PYTHON.count(change.old) == 1 and change.new != change.old and change.words for change in found
    )
    assert len({change.words.split()[0] for change in found}) >= 5


def test_names_in_a_file(recipe: dict[str, ModuleType]) -> None:
    assert recipe["changes"].names_in(PYTHON) == [
        "Settings",
        "__init__",
        "value_of",
        "load_settings",
        "count_",
    ]
    assert recipe["changes"].names_in("") == ["main"]


def test_every_phrase_can_be_filled(recipe: dict[str, ModuleType]) -> None:
    book = recipe["phrasebook"].Phrasebook([])
    names = ["name", "other", "file", "path", "base", "project"]
    names += ["branch", "kind", "change", "change_s", "where"]
    facts = dict.fromkeys(names, "x{y}")
    lists = ["edits_run", "edits_list", "edits_numbered", "files_list"]
    lists += ["files_numbered", "files_table", "count"]
    for part, templates in recipe["phrasebook"].PHRASES.items():
        known = facts | (dict.fromkeys(lists, "some") if part == "summary" else {})
        for template in templates:
            text = book.fill(random.Random(1), template, known, "if (x) { y }\n" * 20)
            assert "{" not in text.replace("x{y}", "").replace("{ y }", ""), template


def test_an_unknown_slot_is_an_error(recipe: dict[str, ModuleType]) -> None:
    with pytest.raises(KeyError, match=r"\{nobody\}"):
        recipe["grammar"].fill("by {nobody}", {}.get)


def test_slots_take_digits_small_and_capital_letters(recipe: dict[str, ModuleType]) -> None:
    words = {"what": "{thing} {thing2}", "thing": "Word"}
    assert recipe["grammar"].fill("{What}: {thing_l2}", words.get) == "Word Word: word"


def test_every_runner_can_be_filled(recipe: dict[str, ModuleType]) -> None:
    runners = recipe["runners"]
    source = runners.Source("/home/x/demo", "a/settings.py", PYTHON, ["Settings"])
    for runner in runners.RUNNERS:
        for template in [
            *runner["command"],
            runner["passed"],
            runner["failed"],
            runner.get("row", ""),
            runner.get("row_bad", ""),
        ]:
            known = dict.fromkeys(["bad", "count", "fine", "test_file", "case", "rows"], "some")
            assert isinstance(runners._fill(random.Random(1), template, source, source.facts() | known), str)


def test_the_size_of_a_packages_documents_is_limited(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    gather = recipe["gather"]
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "demo", "license": "MIT"}')
    for n in range(4):
        lines = "".join(
            f"export const {word} = compute({n}, {word}, 0);\n"
            for word in random.Random(n).choices(NAMES, k=40)
        )
        (folder / f"part{n}.ts").write_text(lines)
    archive = tmp_path / "demo-1.2.3.tgz"
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder, "package")
    members = dict(gather.members_of(archive))
    assert gather.declared_licence(members) == "MIT"
    assert gather.version_of("npm", archive) == "1.2.3"
    collector = recipe["selection"].Collector({"typescript": 10**9})
    kept = gather.documents_of("demo", members, 2_000, collector)
    assert [row["path"] for row in kept] and len(kept) == 2
    assert all(row["kind"] == "typescript" for row in kept)


def test_validation_folders_are_whole_and_few(recipe: dict[str, ModuleType]) -> None:
    in_validation = recipe["selection"].in_validation
    rows = [{"package": "demo", "path": f"folder{n // 4}/file{n}.py"} for n in range(8000)]
    flags = [in_validation(row) for row in rows]
    assert all(len(set(flags[at : at + 4])) == 1 for at in range(0, 8000, 4))
    assert 0.01 < sum(flags) / len(flags) < 0.03


def test_packing_writes_tokens_that_decode_to_the_documents(
    recipe: dict[str, ModuleType], files: list[dict], tmp_path: Path
) -> None:
    np = pytest.importorskip("numpy")
    pack = recipe["pack"]
    encoder = pack.TrieTokenizer(RECIPE / "vocab.txt")
    kinds = pack.write_tokens(files, encoder, tmp_path / "train.bin")
    ids = np.fromfile(tmp_path / "train.bin", dtype="<u2")
    starts = np.flatnonzero(ids == 0)
    texts = [encoder.decode(part.tolist()) for part in np.split(ids, starts[1:])]
    assert texts == [row["text"] for row in files]
    assert kinds["python"]["documents"] == 6
    assert kinds["python"]["tokens"] + kinds["prose"]["tokens"] == len(ids)


def test_packing_encodes_a_session_as_the_stream_does(
    recipe: dict[str, ModuleType], files: list[dict], tmp_path: Path
) -> None:
    np, pack = pytest.importorskip("numpy"), recipe["pack"]
    encoder = pack.TrieTokenizer(RECIPE / "vocab.txt")
    session = traces(recipe, files, 1)
    stream = TraceWindows(encoder, size=1 << 20)
    for trace in session.traces:
        stream.add(trace)
    (window,) = stream.flush()
    row = {"kind": "transcripts", "text": session.text()}
    kinds = pack.write_tokens([row, row | {"kind": "prose"}], encoder, tmp_path / "train.bin")
    ids = np.fromfile(tmp_path / "train.bin", dtype="<u2")
    starts = np.flatnonzero(ids == encoder.eot_id)
    apart, whole = (part[1:].tolist() for part in np.split(ids, starts[1:]))
    assert apart == list(window.ids)
    assert whole == list(encoder.encode(session.text())) != apart
    assert kinds["transcripts"]["bytes"] == kinds["prose"]["bytes"] == len(session.text().encode())


def test_a_sessions_turns_are_its_traces(recipe: dict[str, ModuleType], files: list[dict]) -> None:
    session = traces(recipe, files, 2)
    rendered = [render(trace) for trace in session.traces]
    assert recipe["turns"].turns_of(session.text()) == [text for text in rendered if text]
    assert recipe["turns"].turns_of("") == []
    assert recipe["turns"].turns_of("User: a\n\n\fUser: b") == ["User: a\n\n", "\fUser: b"]


def test_the_vocabulary_has_4095_tokens_and_every_byte(recipe: dict[str, ModuleType]) -> None:
    encoder = recipe["pack"].TrieTokenizer(RECIPE / "vocab.txt")
    assert encoder.vocab_size == 4096
    assert {encoder.token_bytes(token) for token in range(1, 257)} == {bytes([byte]) for byte in range(256)}


def test_the_mixture_follows_the_shares(recipe: dict[str, ModuleType]) -> None:
    row = {"text": "x" * 100, "package": "demo", "path": "a"}
    rows = [row | {"kind": kind} for kind in ("typescript", "go", "json") for _ in range(200)]
    chosen = recipe["pack"].choose(rows, 10_000, random.Random(1))
    counts = {kind: sum(row["kind"] == kind for row in chosen) for kind in ("typescript", "go", "json")}
    whole = sum(recipe["pack"].SHARES.values())
    assert counts == {kind: -(-100 * recipe["pack"].SHARES[kind] // whole) for kind in counts}


def test_files_that_sessions_quote_are_taken_last(recipe: dict[str, ModuleType]) -> None:
    rows = [{"kind": "go", "text": "x" * 100, "package": "a", "path": str(n)} for n in range(20)]
    quoted = {("a", str(n)) for n in range(10)}
    shares = recipe["pack"].SHARES
    chosen = recipe["pack"].choose(
        rows, 1_000 * sum(shares.values()) / shares["go"], random.Random(1), quoted
    )
    assert {row["path"] for row in chosen} == {str(n) for n in range(10, 20)}


def test_sessions_list_the_files_they_quote(recipe: dict[str, ModuleType], files: list[dict]) -> None:
    book = recipe["phrasebook"].Phrasebook(row for row in files if row["kind"] == "prose")
    rows = list(recipe["transcripts"].generate(files, 60_000, 1, book))
    paths = {row["path"] for row in files}
    assert rows and all(row["package"] == "demo" and set(row["quotes"]) <= paths for row in rows)
    for row in rows:
        quoted = {path for path in paths if f'/{path.removeprefix("demo-1.0/")}"' in row["text"]}
        assert row["quotes"] and set(row["quotes"]) == quoted


def test_the_primer_is_starts_of_sessions_about_files_that_git_knows(
    recipe: dict[str, ModuleType], files: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe["primer"], "SESSIONS_BYTES", 60_000)
    for row in files:
        path = tmp_path / "packages" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"])
    (tmp_path / "unknown.py").write_text("HIDDEN_FROM_GIT = 1\n" * 100)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "packages"], cwd=tmp_path, check=True)
    texts = []
    for out in (tmp_path / "one.txt", tmp_path / "two.txt"):
        monkeypatch.setattr("sys.argv", ["primer.py", "--repository", str(tmp_path), "--out", str(out)])
        recipe["primer"].main()
        texts.append(out.read_text())
    starts = texts[0].split("\f")
    assert texts[0] == texts[1] and "HIDDEN_FROM_GIT" not in texts[0] and "src/part_" in texts[0]
    assert all(start.startswith("User: ") for start in starts) and max(map(len, starts)) < 7_000


def test_the_lines_that_ship_are_those_of_the_recipe(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "primer.jsonl"
    monkeypatch.setattr("sys.argv", ["primer_lines.py", "--out", str(out)])
    recipe["primer_lines"].main()
    assert out.read_bytes() == Path(primer.__file__).with_name("primer.jsonl").read_bytes()
    records = [json.loads(line) for line in out.read_bytes().splitlines()]
    identifiers = [record["uuid"] for record in records if "uuid" in record]
    assert len(set(identifiers)) == len(identifiers) > 150
    parents = {record["parentUuid"] for record in records if record.get("parentUuid")}
    assert parents <= set(identifiers)


def test_packages_that_were_used_are_listed(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    entries = [
        {
            "package": "a",
            "from": "npm",
            "version": "1",
            "licence": "MIT, or so",
            "outcome": "used",
            "bytes": 5,
        },
        {"package": "b", "from": "deb", "outcome": "could not be downloaded"},
    ]
    recipe["pack"].write_packages(entries, tmp_path / "corpus.csv")
    table = (tmp_path / "corpus.csv").read_text()
    assert table == 'package,from,version,licence,bytes\na,npm,1,"MIT, or so",5\n'


def test_output_of_commands_is_real_and_hides_the_machine(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    module = recipe["command_output"]
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "a.txt").write_text("hello\n")
    assert module._run("cat a.txt", tmp_path / "demo", "") == ("hello", 0)
    output, code = module._run("pwd; cat missing.txt", tmp_path / "demo", "")
    assert output.startswith("/home/dev/demo\n") and "No such file" in output and code == 1


def test_commands_never_see_validation_files(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    folder = tmp_path / "package"
    for n in range(200):
        (folder / str(n)).mkdir(parents=True)
        (folder / str(n) / "a.py").write_text(f"value = {n}\n")
    archive = tmp_path / "demo-1.2.3.tgz"
    with tarfile.open(archive, "w:gz") as bundle:
        bundle.add(folder, "package")
    recipe["command_output"]._unpack("demo", archive, tmp_path / "tree")
    rows = [{"package": "demo", "path": f"{n}/a.py"} for n in range(200)]
    shown = {str(path.relative_to(tmp_path / "tree")) for path in (tmp_path / "tree").rglob("*.py")}
    assert shown == {row["path"] for row in rows if not recipe["selection"].in_validation(row)}
    assert len(shown) < 200


def test_copies_and_near_copies_are_refused_and_kinds_fill_up(
    recipe: dict[str, ModuleType], files: list[dict]
) -> None:
    collector = recipe["selection"].Collector({"python": 3_000})
    assert collector.accept(files[0])
    assert not collector.accept(files[0])
    assert not collector.accept(files[1])
    names = ["".join(random.Random(n).choices("abcdefghij", k=6)) for n in range(120)]
    first, second = (
        "".join(f"{name} = compute_the_value_of({name})\n" for name in half)
        for half in (names[:60], names[60:])
    )
    assert collector.accept(files[0] | {"text": first})
    assert not collector.accept(files[0] | {"text": second}), "the kind is full"
    assert collector.refused["full"]["python"] == len(second)
