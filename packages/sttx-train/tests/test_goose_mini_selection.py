"""The recipe of goose-mini's corpus: which files it keeps, and which are too much like others."""

import random
from pathlib import Path
from types import ModuleType

import pytest


def test_kinds_come_from_names(recipe: dict[str, ModuleType]) -> None:
    kind_of = recipe["selection"].kind_of
    assert kind_of("package/src/index.ts") == "typescript"
    assert kind_of("usr/share/man/man3/SSL_new.3ssl.gz") == "man"
    assert kind_of("README") == "prose"
    assert kind_of("openssh/man/ssh.1") == "man"
    assert kind_of("src/Main.java") == "java"
    assert kind_of("docs/CMakeLists.txt") == "shell"
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


def test_readable_text_is_neither_tiny_nor_minified_nor_a_table_of_symbols(
    recipe: dict[str, ModuleType],
) -> None:
    is_readable = recipe["selection"].is_readable
    assert is_readable("a line of text\n" * 30, "python")
    assert not is_readable("short\n", "python")
    assert not is_readable("x" * 5000, "javascript")
    assert is_readable("настройки\n" * 100, "prose")
    assert not is_readable("→ ■ ▲ ░\n" * 100, "prose")


def test_a_licence_comment_at_the_top_goes_and_others_stay(recipe: dict[str, ModuleType]) -> None:
    strip = recipe["selection"].without_licence_header
    assert strip("/*\n * Copyright A\n */\nint x;\n") == "int x;\n"
    assert strip("# Licensed to you\nimport os\n") == "import os\n"
    assert strip("// Reads settings.\npackage a\n") == "// Reads settings.\npackage a\n"
    assert strip("code\n// Copyright\n") == "code\n// Copyright\n"


def words(seed: int, count: int = 2_000) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghij", k=6)) for _ in range(count)]


def page(seed: int, count: int = 2_000) -> str:
    text = words(seed, count)
    return "\n".join(" ".join(text[at : at + 8]) for at in range(0, count, 8))


@pytest.mark.parametrize(("changed", "near"), [(0, True), (40, True), (300, False), (2_000, False)])
def test_a_near_duplicate_shares_most_words(recipe: dict[str, ModuleType], changed: int, near: bool) -> None:
    seen = recipe["near_duplicates"].NearDuplicates()
    first = words(1)
    second = first.copy()
    for row, word in zip(random.Random(2).sample(range(2_000), changed), words(3, changed), strict=True):
        second[row] = word
    assert seen.is_new(" ".join(first))
    assert seen.is_new("\n  ".join(second)) is not near


def test_likeness_estimates_the_share_in_common(recipe: dict[str, ModuleType]) -> None:
    module = recipe["near_duplicates"]
    shared = words(1, 6_000)
    one, other = (module.signature(" ".join(shared + words(seed, 1_500))) for seed in (2, 3))
    assert module.likeness(one, one) == 1
    assert abs(module.likeness(one, other) - 6_000 / 9_000) < 0.2


def test_texts_shorter_than_a_shingle_have_a_signature(recipe: dict[str, ModuleType]) -> None:
    module = recipe["near_duplicates"]
    assert module.likeness(module.signature(""), module.signature("short")) < 1


def test_refused_files_are_counted_by_reason(recipe: dict[str, ModuleType]) -> None:
    collector = recipe["selection"].Collector({"prose": 100_000})
    row = {"package": "demo", "path": "a.md", "kind": "prose"}
    text = "\n".join(" ".join(words(seed, 12)) for seed in range(100))
    shuffled = "\n".join(reversed(text.split("\n")))
    rewrapped = "\n".join(" ".join(part) for part in zip(*[iter(text.split())] * 7, strict=False))
    assert [collector.accept(row | {"text": item}) for item in (text, text, shuffled, rewrapped)] == [
        True
    ] + [False] * 3
    counts = {reason: sizes["prose"] for reason, sizes in collector.refused.items()}
    assert counts["copy"] == len(text)
    assert counts["known lines"] == len(shuffled)
    assert counts["near-duplicate"] == len(rewrapped)
    assert counts["full"] == 0


def test_nothing_like_an_earlier_validation_text_is_kept(
    recipe: dict[str, ModuleType], tmp_path: Path
) -> None:
    gather, selection = recipe["gather"], recipe["selection"]
    (tmp_path / "prose.txt").write_text("Another page.\f" + page(1))
    apart = gather.known_texts(tmp_path)
    members = {f"package/{n}/a.md": page(1, 1_990).encode() for n in range(200)}
    members["package/other/b.md"] = page(2).encode()
    for name, data in members.items():
        collector = selection.Collector({"prose": 10**9}, apart)
        kept = gather.documents_of("demo", {name: data}, 10**9, collector)
        row = {"package": "demo", "path": gather.inner_path(name)}
        assert bool(kept) is (selection.in_validation(row) or name.endswith("b.md"))
    with pytest.raises(SystemExit, match="no .txt files"):
        gather.known_texts(tmp_path / "nowhere")
