"""Downloads packages with the ordinary clients, many with one command, and keeps each in a folder of its own.

The clients are `npm pack`, `apt-get download`, `apt-get source` and `pip download`. An interrupted download
continues: what is in the cache is not asked for again. Knows nothing of what is inside a package.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from debian import is_source

TOGETHER = 20
"""Packages that one command downloads; a batch with a failure is downloaded package by package."""
PATIENCE = 420
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
COMMANDS = {
    "npm": ["npm", "pack", "--silent", "--json"],
    "deb": ["apt-get", "download", "-qq"],
    "source": ["apt-get", "source", "--download-only", "-qq"],
    "wheel": PIP,
    "sdist": [*PIP, "--no-clean", "--no-build-isolation", "--no-binary", ":all:"],
}


def fetch(manager: str, name: str, cache: pathlib.Path) -> pathlib.Path | None:
    """Return a package's archive, or its folder for a source package or one that pip could only unpack."""
    folder = folder_of(manager, name, cache)
    if found := downloaded(manager, folder):
        return found
    part = _empty(folder.with_name(f"{folder.name}.part"))
    shutil.rmtree(folder, ignore_errors=True)
    problem, _ = _ask(manager, [name], part)
    if problem and _unpacked(part) is None:
        print(f"failed: {' '.join(COMMANDS[manager])} {name}: {problem}", file=sys.stderr)
        return None
    os.replace(part, folder)
    return downloaded(manager, folder)


def fetch_all(plan: dict[str, Sequence[str]], cache: pathlib.Path) -> None:
    """Download the packages of each manager, one thread a manager; failures are left for `fetch`."""
    with ThreadPoolExecutor(len(plan)) as threads:
        for done in [threads.submit(_fetch_many, manager, names, cache) for manager, names in plan.items()]:
            done.result()


def folder_of(manager: str, name: str, cache: pathlib.Path) -> pathlib.Path:
    """Return the folder of a package's download."""
    return cache / manager / re.sub(r"[^\w.-]", "_", name)


def downloaded(manager: str, folder: pathlib.Path) -> pathlib.Path | None:
    """Return the complete result of an earlier download in a folder; None if there is none."""
    if manager == "source":
        return folder if is_source(folder) else None
    return next((path for path in folder.glob("*") if path.is_file()), None) or _unpacked(folder)


def _fetch_many(manager: str, names: Sequence[str], cache: pathlib.Path) -> None:
    missing = [name for name in names if downloaded(manager, folder_of(manager, name, cache)) is None]
    if manager == "sdist":  # pip prepares each package and stops at the first that it cannot prepare
        for name in missing:
            fetch(manager, name, cache)
        return
    for start in range(0, len(missing), TOGETHER):
        some = missing[start : start + TOGETHER]
        part = _empty(cache / manager / "batch.part")
        problem, printed = _ask(manager, some, part)
        found = {} if problem else archives_of(manager, some, part, printed)
        for name, paths in found.items():
            folder = _empty(folder_of(manager, name, cache))
            for path in paths:
                os.replace(path, folder / path.name)
        for name in some:
            fetch(manager, name, cache)


def archives_of(
    manager: str, names: Sequence[str], folder: pathlib.Path, printed: str
) -> dict[str, list[pathlib.Path]]:
    """Return which files in a folder one command downloaded for which of the names, given what it printed."""
    if manager == "npm":
        entries = json.loads(printed)
        files = [folder / re.sub("^@", "", entry["filename"]).replace("/", "-") for entry in entries]
        return {name: [path] for name, path in zip(names, files, strict=True) if path.is_file()}
    found: dict[str, list[pathlib.Path]] = {}
    for name in names:
        if manager == "source":
            for description in folder.glob(f"{name}_*.dsc"):
                found[name] = [description, *_parts_of(description)]
        else:
            wanted = functools.partial(_is_of, manager, name)
            found[name] = [path for path in folder.iterdir() if path.is_file() and wanted(path.name)]
    return {name: paths for name, paths in found.items() if paths and all(path.is_file() for path in paths)}


def _is_of(manager: str, name: str, file: str) -> bool:
    """Return whether a Debian package or a wheel of that file name is of the package."""
    if manager == "deb":
        return file.split("_")[0] == name
    return _normalized(file.split("-")[0]) == _normalized(re.split(r"[=<>\[]", name)[0])


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _parts_of(description: pathlib.Path) -> list[pathlib.Path]:
    """Return the archives that a `.dsc` lists."""
    text = description.read_text("utf-8", "replace")
    listed = re.search(r"^Files:\s*\n((?: .+\n)+)", text, re.M)
    return [description.with_name(line.split()[-1]) for line in (listed[1] if listed else "").splitlines()]


def _ask(manager: str, names: Sequence[str], folder: pathlib.Path) -> tuple[str | None, str]:
    """Download packages into a folder; return what went wrong, if anything, and what the client printed."""
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    try:
        done = subprocess.run(
            [*COMMANDS[manager], *names],
            cwd=folder,
            capture_output=True,
            env=os.environ | {"TMPDIR": str(unpacked)},
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE} s", ""
    message = done.stderr.decode("utf-8", "replace").strip()[-200:]
    return (message or f"exit {done.returncode}") if done.returncode else None, done.stdout.decode()


def _empty(folder: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _unpacked(folder: pathlib.Path) -> pathlib.Path | None:
    """Return the folder of a source package that pip unpacked but could not prepare."""
    return next((path.parent for path in sorted(folder.glob("unpacked/pip-download-*/*/PKG-INFO"))), None)
