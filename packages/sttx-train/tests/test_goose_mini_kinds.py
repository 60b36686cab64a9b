"""The recipe's wider kinds of text: clients, MCP servers, identifiers, answers, pages, languages."""

import importlib
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

RECIPE = Path(__file__).parents[1] / "recipes" / "goose_mini"
NAMES = [
    "answering",
    "clients",
    "identifiers",
    "made_up",
    "pages",
    "phrasebook",
    "results",
    "scene",
    "selection",
]
NAMES += ["servers", "session", "tongues", "tools", "command_output"]
CODE = (
    "def load_settings(path):\n    return path.read_text()\n\n\ndef main():\n    print(load_settings('a'))\n"
)


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, importable for these tests only."""
    before = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(RECIPE))
        for name in set(sys.modules) - before:
            if (RECIPE / f"{name}.py").exists():
                del sys.modules[name]


def scene_of(recipe: dict[str, ModuleType], seed: int = 1):
    files = [
        {"package": "demo", "path": f"src/part_{n}.py", "kind": "python", "text": CODE} for n in range(3)
    ]
    prose = {"kind": "prose", "text": "The settings are read when the program starts.\n\n" * 40}
    scene = recipe["scene"].Scene(
        random.Random(seed), "demo", files, recipe["phrasebook"].Phrasebook([prose]), []
    )
    scene.turn_to(scene.any_file())
    return scene


def calls(scene) -> list[tuple]:
    rows = scene.session.traces
    return [
        (use, result) for use, result in zip(rows, rows[1:], strict=False) if type(use).__name__ == "ToolUse"
    ]


@pytest.mark.parametrize("name", ["Client", "Codex", "OpenCode", "Snake", "Editor"])
@pytest.mark.parametrize("seed", range(4))
def test_every_client_shows_the_same_work(recipe: dict[str, ModuleType], name: str, seed: int) -> None:
    scene = scene_of(recipe)
    session = scene.session
    session.client = getattr(recipe["clients"], name)(random.Random(seed), session.root)
    session.windows = ""
    path = scene.any_file()
    session.read(path)
    session.edit(path, "read_text()", "read_bytes()")
    session.write(f"{session.root}/notes.md", "# Notes\n\nDone.\n")
    session.grep("load_settings")
    session.bash("make test", "Run the tests", "all failed", 2)
    session.todos([("Fix it", "Fixing it"), ("Test it", "Testing it")], 1)
    made = calls(scene)
    assert len(made) == 6
    assert all(use.name == result.name and use.id == result.id for use, result in made)
    read, edit, write, grep, bash, todos = made
    assert "return path.read_text()" in read[1].output
    assert all(text in json.dumps(edit[0].input) for text in ("read_text()", "read_bytes()"))
    assert "Done." in json.dumps(write[0].input)
    assert "load_settings" in json.dumps(grep[0].input)
    assert "make test" in json.dumps(bash[0].input) and "all failed" in bash[1].output and bash[1].is_error
    assert "Test it" in json.dumps(todos[0].input)
    assert session.files[path].count("read_bytes()") == 1


def test_a_patch_of_codex_names_its_lines(recipe: dict[str, ModuleType]) -> None:
    codex = recipe["clients"].Codex(random.Random(3), "/app")
    codex.newer = True
    given = {"file_path": "/app/a.py", "old_string": "x = 1", "new_string": "x = 2\ny = 3"}
    name, patch, answer = codex.call("Edit", given, "")
    assert name == "apply_patch" and "M a.py" in answer
    body = "*** Begin Patch\n*** Update File: a.py\n@@\n-x = 1\n+x = 2\n+y = 3\n*** End Patch\n"
    assert patch == body


def test_paths_of_windows_replace_the_projects_root_everywhere(recipe: dict[str, ModuleType]) -> None:
    scene = scene_of(recipe)
    session = scene.session
    session.client = recipe["clients"].Client(random.Random(1), session.root)
    session.windows = "C:\\dev\\demo"
    session.read(scene.any_file())
    session.glob()
    text = session.text()
    assert session.root not in text
    assert "C:\\dev\\demo\\src\\part_0.py" in text and '"C:\\\\dev\\\\demo\\\\src\\\\' in text


def test_identifiers_have_their_shape(recipe: dict[str, ModuleType]) -> None:
    identifier, shapes = recipe["identifiers"].identifier, recipe["identifiers"].SHAPES
    patterns = {
        "commit": r"[0-9a-f]{40}",
        "address": r"0x[0-9a-fA-F]{40}",
        "base58": r"[1-9A-HJ-NP-Za-km-z]{34,88}",
        "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "token": r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]{43}",
        "color": r"#[0-9a-fA-F]{6}",
    }
    for seed in range(20):
        for shape, pattern in patterns.items():
            assert re.fullmatch(pattern, identifier(random.Random(seed), shape)), shape
    assert all(identifier(random.Random(1), shape) for shape in shapes)
    assert identifier(random.Random(5)) == identifier(random.Random(5)) != identifier(random.Random(6))


def test_answers_are_json_and_rows_have_the_same_fields(recipe: dict[str, ModuleType]) -> None:
    maker = recipe["results"].Maker(["user", "order"], ["It works."])
    for seed in range(30):
        rng = random.Random(seed)
        value = maker.answer(rng)
        assert json.loads(recipe["results"].as_text(rng, value)) == value
        if isinstance(value, list) and value:
            assert all(list(row) == list(value[0]) for row in value)


def test_references_of_a_page_are_unique(recipe: dict[str, ModuleType]) -> None:
    for seed in range(10):
        page = recipe["pages"].Page(random.Random(seed), ["save", "open"], ["It works."])
        text = page.tree("Home", "http://localhost:3000/")
        references = re.findall(r"\[ref=(\w+)\]", text)
        assert references and len(set(references)) == len(references)
        listed = recipe["pages"].Page(random.Random(seed), ["save"], ["It works."]).numbered("Home", "x")
        numbers = re.findall(r"^ *uid=(\w+)", listed, re.M)
        assert len(set(numbers)) == len(numbers) == listed.count("\n") + 1


def test_every_tool_of_a_server_can_be_called(recipe: dict[str, ModuleType]) -> None:
    servers = recipe["servers"]
    caller = servers.Caller(scene_of(recipe))
    for tools in servers.SERVERS.values():
        for slots, form in tools.values():
            for slot in slots.split():
                assert json.dumps(caller._value(slot.partition(":")[2]))
            assert isinstance(servers.FORMS[form](caller.answers), str)
    assert isinstance(caller.answers.failure(), str)


def test_other_tools_are_called_with_everything_filled(recipe: dict[str, ModuleType]) -> None:
    scene = scene_of(recipe)
    scene.session.client = recipe["clients"].Client(random.Random(1), scene.session.root)
    for step in recipe["tools"].STEPS:
        for _ in range(3):
            step(scene)
    text = scene.session.text()
    assert {"AskUserQuestion", "ExitPlanMode", "TaskCreate", "WebSearch"} <= {
        use.name for use, _ in calls(scene)
    }
    assert not re.search(r"\b(QUESTION|ANSWER|SHELL|PLACE|STATUS|LINES|TOKENS|NUMBER)\b", text)


@pytest.mark.parametrize(
    ("text", "tongue"),
    [
        ("El archivo no se puede abrir por falta de permisos", "es"),
        ("Le fichier est introuvable dans le dossier", "fr"),
        ("Der Ordner kann nicht gelesen werden", "de"),
        ("O arquivo não foi encontrado na pasta", "pt"),
        ("Файл не найден", "ru"),
        ("파일을 찾을 수 없습니다", "ko"),
        ("找不到该文件", "zh"),
        ("設定を読み込みます", "ja"),
        ("The file could not be opened", ""),
    ],
)
def test_languages_are_told_apart(recipe: dict[str, ModuleType], text: str, tongue: str) -> None:
    assert recipe["tongues"].tongue_of(text) == tongue


def test_every_sentence_in_another_language_can_be_filled(recipe: dict[str, ModuleType]) -> None:
    tongues = recipe["tongues"]
    scene = scene_of(recipe)
    for name, parts in tongues.TONGUES.items():
        scene.tongue = tongues.Tongue(name, ["…"])
        for templates in parts.values():
            for template in templates:
                assert "{" not in scene.fill(template)


def test_translations_are_a_kind_of_their_own(recipe: dict[str, ModuleType]) -> None:
    kind_of = recipe["selection"].kind_of
    found = [
        "docs/manual/auth.xml.fr",
        "README.zh-CN.md",
        "locale/ja/LC_MESSAGES/a.po",
        "src/locales/de.json",
    ]
    assert {kind_of(name) for name in found} == {"languages"}
    assert [kind_of(name) for name in ("README.md", "locales/en.json", "app/de.js")] == [
        "prose",
        "json",
        "javascript",
    ]


def test_a_file_with_a_licence_of_its_own_is_judged_by_it(recipe: dict[str, ModuleType]) -> None:
    refused = recipe["selection"].has_own_copyleft
    assert refused("// SPDX-License-Identifier: GPL-3.0-or-later\ncontract A {}", ["MIT"])
    assert not refused("// SPDX-License-Identifier: MIT\ncontract A {}", ["MIT"])
    assert not refused("contract A {}", ["MIT"])


def test_made_up_documents_follow_their_seed(recipe: dict[str, ModuleType]) -> None:
    module = recipe["made_up"]
    maker = recipe["results"].Maker(["user", "order"], ["It works."])
    rows = list(module.generate(maker, 60_000, 1))
    assert rows == list(module.generate(maker, 60_000, 1)) != list(module.generate(maker, 60_000, 2))
    assert {row["kind"] for row in rows} <= set(module.KINDS)


def test_commands_keep_their_colors_on_a_terminal(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    pytest.importorskip("pty")
    (tmp_path / "demo").mkdir()
    run = recipe["command_output"]._run
    output, code = run(
        "test -t 1 && printf '\\033[31mred\\033[0m\\n'; exit 3", tmp_path / "demo", "", color=True
    )
    assert output == "\x1b[31mred\x1b[0m" and code == 3
