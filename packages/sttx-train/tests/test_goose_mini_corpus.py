"""The recipe of goose-mini's corpus: what it keeps, and that its sessions are truthful about their files."""

import importlib
import json
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

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


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, importable for these tests only."""
    names = ["changes", "command_output", "gather", "grammar", "looking", "pack", "phrasebook", "playing"]
    names += ["runners", "scene", "selection", "session", "transcripts"]
    sys.path.insert(0, str(RECIPE))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(RECIPE))
        for name in names:
            sys.modules.pop(name, None)


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
    return list(recipe["transcripts"].generate(files, size, seed, book))


def traces(recipe: dict[str, ModuleType], files: list[dict], seed: int):
    book = recipe["phrasebook"].Phrasebook(row for row in files if row["kind"] == "prose")
    scene = recipe["scene"].Scene(random.Random(seed), "demo", files, book, [])
    for _ in range(6):
        recipe["playing"].play_task(scene)
    return scene.session


def test_kinds_come_from_names(recipe: dict[str, ModuleType]) -> None:
    kind_of = recipe["selection"].kind_of
    assert kind_of("package/src/index.ts") == "typescript"
    assert kind_of("usr/share/man/man3/SSL_new.3ssl.gz") == "man"
    assert kind_of("README") == "prose"
    assert kind_of("package/dist/app.min.js") is None
    assert kind_of("package-lock.json") is None
    assert kind_of(".eslintrc") is None
    assert kind_of("LICENSE.md") is None


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("(MIT OR CC0-1.0)", True),
        ("Unlicense or MIT", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND LGPL-2.1", False),
        ("MPL-2.0", False),
        ("", False),
        ("SEE LICENSE IN x", False),
        ("Public Domain / BSD License / GNU General Public License (GPL)", False),
    ],
)
def test_only_permissive_licences_pass(recipe: dict[str, ModuleType], licence: str, fine: bool) -> None:
    assert (
        recipe["selection"].is_permissive(
            licence, ["MIT", "Apache", "BSD", "CC0", "Unlicense", "public.domain"]
        )
        is fine
    )


def test_readable_text_is_neither_tiny_nor_minified_nor_foreign(recipe: dict[str, ModuleType]) -> None:
    is_readable = recipe["selection"].is_readable
    assert is_readable("a line of text\n" * 30, "python")
    assert not is_readable("short\n", "python")
    assert not is_readable("x" * 5000, "javascript")
    assert not is_readable("настройки\n" * 100, "prose")


def test_a_licence_comment_at_the_top_goes_and_others_stay(recipe: dict[str, ModuleType]) -> None:
    strip = recipe["selection"].without_licence_header
    assert strip("/*\n * Copyright A\n */\nint x;\n") == "int x;\n"
    assert strip("# Licensed to you\nimport os\n") == "import os\n"
    assert strip("// Reads settings.\npackage a\n") == "// Reads settings.\npackage a\n"
    assert strip("code\n// Copyright\n") == "code\n// Copyright\n"


def test_copies_and_near_copies_are_refused_and_kinds_fill_up(
    recipe: dict[str, ModuleType], files: list[dict]
) -> None:
    collector = recipe["selection"].Collector({"python": 3_000})
    text = files[0]["text"]
    assert collector.accept(text, "python")
    assert not collector.accept(text, "python")
    assert not collector.accept(files[1]["text"], "python")
    other = "".join(f"value_{i} = compute_the_value({i})\n" for i in range(60))
    assert collector.accept(other, "python")
    assert not collector.accept(other.replace("value_", "number_"), "python"), "the kind is full"


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
                assert isinstance(json.loads(arguments), dict)
                assert re.match(rf"Tool (result|error): {name}\b", answer)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_read_and_edited_is_the_files_real_text(
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


@pytest.mark.parametrize("kind", ["python", "typescript", "javascript", "go", "rust", "c", "csharp", "json"])
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
    names = [
        "name",
        "other",
        "file",
        "path",
        "base",
        "project",
        "branch",
        "kind",
        "change",
        "change_s",
        "where",
    ]
    facts = dict.fromkeys(names, "x{y}")
    lists = [
        "edits_run",
        "edits_list",
        "edits_numbered",
        "files_list",
        "files_numbered",
        "files_table",
        "count",
    ]
    for part, templates in recipe["phrasebook"].PHRASES.items():
        known = facts | (dict.fromkeys(lists, "some") if part == "summary" else {})
        for template in templates:
            text = book.fill(random.Random(1), template, known, "if (x) { y }\n" * 20)
            assert "{" not in text.replace("x{y}", "").replace("{ y }", ""), template


def test_a_slot_that_nobody_knows_is_an_error(recipe: dict[str, ModuleType]) -> None:
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


def test_documents_of_a_package_are_capped(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    gather = recipe["gather"]
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "demo", "license": "MIT"}')
    for n in range(4):
        lines = "".join(f"export const value_{n}_{i} = compute({n}, {i});\n" for i in range(40))
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


def test_held_out_folders_are_whole_and_few(recipe: dict[str, ModuleType]) -> None:
    held_out = recipe["selection"].held_out
    rows = [{"package": "demo", "path": f"folder{n // 4}/file{n}.py"} for n in range(8000)]
    flags = [held_out(row) for row in rows]
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


def test_the_vocabulary_has_4095_tokens_and_every_byte(recipe: dict[str, ModuleType]) -> None:
    encoder = recipe["pack"].TrieTokenizer(RECIPE / "vocab.txt")
    assert encoder.vocab_size == 4096
    assert {encoder.token_bytes(token) for token in range(1, 257)} == {bytes([byte]) for byte in range(256)}


def test_the_mixture_follows_the_shares(recipe: dict[str, ModuleType]) -> None:
    rows = [{"kind": kind, "text": "x" * 100} for kind in ("typescript", "go", "json") for _ in range(200)]
    chosen = recipe["pack"].choose(rows, 10_000, random.Random(1))
    counts = {kind: sum(row["kind"] == kind for row in chosen) for kind in ("typescript", "go", "json")}
    assert counts == {"typescript": 22, "go": 15, "json": 5}


def test_output_of_commands_is_real_and_hides_the_machine(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    module = recipe["command_output"]
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "a.txt").write_text("hello\n")
    assert module._run("cat a.txt", tmp_path / "demo", "") == ("hello", 0)
    output, code = module._run("pwd; cat missing.txt", tmp_path / "demo", "")
    assert output.startswith("/home/dev/demo\n") and "No such file" in output and code == 1
