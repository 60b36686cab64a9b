"""The recipe's downloads: many packages with one command, each kept apart, repeated if interrupted."""

import json
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


def test_an_interrupted_download_is_repeated(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads, calls = recipe["downloads"], []

    def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        (cwd / "demo-1.0.tgz").write_bytes(b"x")
        if len(calls) == 1:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(downloads.subprocess, "run", run)
    found = [downloads.fetch("npm", "@a/demo", tmp_path) for _ in range(3)]
    assert [path and path.name for path in found][1:] == ["demo-1.0.tgz"] * 2
    assert len(calls) == 2


class Registry:
    """A stand-in for the clients: downloads what exists, and fails as a whole if one name does not."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
        names = [word for word in command[1:] if word.startswith(("@a/", "demo", "Demo", "gone"))]
        self.calls.append(names)
        if any(name.startswith("gone") for name in names):
            return subprocess.CompletedProcess(command, 1, b"", b"not found")
        listed = [getattr(self, "_" + command[0].replace("-", "_"))(command, cwd, name) for name in names]
        return subprocess.CompletedProcess(command, 0, json.dumps(listed).encode(), b"")

    def _npm(self, command: list[str], cwd: Path, name: str) -> dict:
        file = name.replace("@", "").replace("/", "-") + "-1.0.tgz"
        (cwd / file).write_text(name)
        return {"filename": file}

    def _apt_get(self, command: list[str], cwd: Path, name: str) -> None:
        if command[1] == "download":
            (cwd / f"{name}_1%3a2_all.deb").write_text(name)
            return
        (cwd / f"{name}_1.orig.tar.gz").write_text(name)
        (cwd / f"{name}_1.dsc").write_text(f"Format: 3.0\nFiles:\n 0af 10 {name}_1.orig.tar.gz\nBinary: x\n")


@pytest.mark.parametrize("manager", ["npm", "deb", "source"])
def test_packages_are_downloaded_with_few_commands_and_kept_apart(
    recipe: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str
) -> None:
    downloads, registry = recipe["downloads"], Registry()
    monkeypatch.setattr(downloads.subprocess, "run", registry)
    monkeypatch.setattr(downloads, "TOGETHER", 3)
    names = ["demo", "@a/demo" if manager == "npm" else "demo-a", "demo-b", "demo-c", "gone"]
    downloads.fetch_all({manager: names}, tmp_path)
    assert registry.calls == [names[:3], names[3:], ["demo-c"], ["gone"]]
    for name in names[:4]:
        found = downloads.downloaded(manager, downloads.folder_of(manager, name, tmp_path))
        paths = sorted(found.iterdir()) if manager == "source" else [found]
        assert {path.read_text() for path in paths if path.is_file() and path.suffix != ".dsc"} == {name}
    downloads.fetch_all({manager: names[:4]}, tmp_path)
    assert len(registry.calls) == 4, "what is in the cache is not asked for again"


def test_a_wheel_belongs_to_the_package_of_that_name(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    for file in ("Demo_Kit-1.0-py3-none-any.whl", "demo-1.0-py3-none-any.whl"):
        (tmp_path / file).write_text("")
    found = recipe["downloads"].archives_of("wheel", ["demo.kit==1.0", "demo", "other"], tmp_path, "")
    names = {name: [path.name for path in paths] for name, paths in found.items()}
    assert names == {
        "demo.kit==1.0": ["Demo_Kit-1.0-py3-none-any.whl"],
        "demo": ["demo-1.0-py3-none-any.whl"],
    }
