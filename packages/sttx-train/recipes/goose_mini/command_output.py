"""Runs the commands of `commands.toml` over unpacked packages and keeps what they print.

The output reveals nothing about the machine: commands run inside a copy of a package, whose folder appears as
`/home/dev/<name>`, with a fixed author and date. The installed tools are used; a missing tool's error message
counts as output too.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator

from downloads import downloaded, folder_of
from gather import inner_path, members_of
from grammar import Literal, fill
from selection import in_validation

COMMANDS = tomllib.loads((pathlib.Path(__file__).parent / "commands.toml").read_text("utf-8"))
LONGEST = 9_000
PATIENCE = 6
TIMES = 4
SOURCES = frozenset([".py", ".ts", ".tsx", ".js", ".mjs", ".go", ".rs", ".h", ".hpp", ".cs", ".java", ".rb"])
ALIKE = {"tsx": "ts", "mjs": "js", "hpp": "h"}
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "CI": "1",
    "NO_COLOR": "1",
    "GIT_PAGER": "cat",
    "GIT_AUTHOR_NAME": "Dev",
    "GIT_AUTHOR_EMAIL": "dev@example.com",
    "GIT_AUTHOR_DATE": "2025-03-14T10:00:00+0100",
    "GIT_COMMITTER_NAME": "Dev",
    "GIT_COMMITTER_EMAIL": "dev@example.com",
    "GIT_COMMITTER_DATE": "2025-03-14T10:00:00+0100",
    "npm_config_offline": "true",
    "npm_config_update_notifier": "false",
    "CARGO_NET_OFFLINE": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
}
COLORS = {
    "TERM": "xterm-256color",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PY_COLORS": "1",
    "COLUMNS": "100",
}
COLORED = 16
_TOP = re.compile(
    r"^(\./)?(package/|usr/(share|include|lib)/(gocode/src/[^/]+/[^/]+/[^/]+/|cargo/registry/[^/]+/)?"
    r"|[\w.-]+-\d[\w.]*/)"
)


def produce(cache: pathlib.Path, trees: pathlib.Path, every: int = 1, seed: int = 5) -> Iterator[dict]:
    """Documents of eight commands each: the commands (`runs`), and as a terminal shows them (`text`)."""
    toolbox = _toolbox(cache, trees)
    yield from demonstrate(trees, toolbox)
    for tree in COMMANDS["trees"][::every]:
        manager, _, package = tree.partition("/")
        archive = downloaded(manager, folder_of(manager, package, cache))
        folder = _unpack(package, archive, trees / re.sub(r"\W+", "-", package).strip("-"))
        rng = random.Random(f"{seed} {tree}")
        places = _places(rng, folder) if folder else None
        if folder is None or places is None:
            continue
        _history(rng, folder, places)
        ending = places["ext"][0]
        templates = COMMANDS["everywhere"] + COMMANDS["by_extension"].get(ALIKE.get(ending, ending), [])
        runs = [run for template in templates for run in _run_filled(rng, template, places, folder, toolbox)]
        yield from _documents(package, "terminal", "log", runs)
        templates = COMMANDS["colored"] + COMMANDS["colored_by_extension"].get(ALIKE.get(ending, ending), [])
        some = rng.sample(templates, min(COLORED, len(templates)))
        runs = [
            run
            for line in some
            for run in _run_filled(rng, line, places, folder, toolbox, times=1, color=True)
        ]
        yield from _documents(package, "colors", "colors", runs)


def demonstrate(trees: pathlib.Path, toolbox: str) -> Iterator[dict]:
    """Documents of programs that show progress, tables and the like on a terminal."""
    (trees / "demo").mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(COMMANDS["demonstrations"]):
        output, code = _run(command, trees / "demo", toolbox, color=True)
        if output:
            runs = [{"command": command, "output": output, "code": code}]
            yield from _documents(f"demonstration {number}", "colors", "colors", runs)


def _documents(package: str, folder: str, kind: str, runs: list[dict]) -> Iterator[dict]:
    for start in range(0, len(runs), 8):
        some = runs[start : start + 8]
        text = "\n".join(f"$ {run['command']}\n{run['output']}" for run in some)
        yield {"package": package, "path": f"{folder}/{start}.log", "kind": kind, "text": text, "runs": some}


def _run_filled(
    rng: random.Random,
    template: str,
    places: dict[str, list[str]],
    folder: pathlib.Path,
    toolbox: str,
    *,
    times: int = TIMES,
    color: bool = False,
) -> list[dict]:
    """A command with some different fillings, where it has slots; silent successes are left out."""

    def draw(slot: str) -> str | None:
        return Literal(rng.choice(places[slot])) if slot in places else Literal("{" + slot + "}")

    commands = dict.fromkeys(fill(template, draw) for _ in range(times))
    runs = [(command, *_run(command, folder, toolbox, color=color)) for command in commands]
    return [{"command": command, "output": out, "code": code} for command, out, code in runs if out or code]


def _run(command: str, folder: pathlib.Path, toolbox: str, *, color: bool = False) -> tuple[str, int]:
    """A command's output, both streams, with the folder's real place hidden; and its exit code.

    With color it runs on a pseudo-terminal, so that it colors, moves the cursor and shows progress.
    """
    environment = {
        **_ENVIRONMENT,
        "PATH": f"{toolbox}:{os.environ['PATH']}",
        "HOME": str(folder.parent / "home"),
    }
    line = ["bash", "-c", command]
    if color:
        environment |= COLORS
        del environment["NO_COLOR"], environment["CI"]
        line = ["script", "--quiet", "--return", "--echo", "never", "--command", command, "/dev/null"]
    try:
        done = subprocess.run(
            line,
            cwd=folder,
            env=environment,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        return "", 0
    output = done.stdout.decode("utf-8", "replace").replace(str(folder.parent), "/home/dev").rstrip()
    output = output.replace("\r\n", "\n").replace("\r\r\n", "\n")
    output = output.replace(f"{pathlib.Path.home()}/", "/home/dev/")
    return output[:LONGEST] + "\n... [output truncated] ..." * (len(output) > LONGEST), done.returncode


def _toolbox(cache: pathlib.Path, trees: pathlib.Path) -> str:
    """A folder of tools that need no settings at home: the cached `tsc`, and Rust's own programs."""
    folder = trees / "toolbox"
    folder.mkdir(parents=True, exist_ok=True)
    for archive in (cache / "npm/typescript_5.9.3").glob("*.tgz"):
        with tarfile.open(archive) as bundle:
            bundle.extractall(folder, filter="data")
        (folder / "tsc").write_text(f'#!/bin/sh\nexec node "{folder}/package/bin/tsc" "$@"\n')
        (folder / "tsc").chmod(0o755)
    if shutil.which("rustc"):
        asked = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
        for tool in ("rustc", "cargo"):
            (folder / tool).unlink(missing_ok=True)
            (folder / tool).symlink_to(f"{asked.stdout.strip()}/bin/{tool}")
    (trees / "home").mkdir(exist_ok=True)
    (trees / "home/.gitconfig").write_text("[init]\n\tdefaultBranch = main\n[safe]\n\tdirectory = *\n")
    return str(folder)


def _unpack(package: str, archive: pathlib.Path | None, target: pathlib.Path) -> pathlib.Path | None:
    """The package's inner folder, freshly unpacked without validation files; None if it is not downloaded."""
    if archive is None:
        return None
    shutil.rmtree(target, ignore_errors=True)
    for name, data in members_of(archive):
        inner = _TOP.sub("", name)
        excluded = in_validation({"package": package, "path": inner_path(name)})
        if not excluded and not inner.startswith(("doc/", "man/", "/")) and ".." not in inner:
            path = target / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return target


def _places(rng: random.Random, folder: pathlib.Path) -> dict[str, list[str]] | None:
    """What the templates are filled with: real files, names, folders, and a broken copy of a file."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in SOURCES and ".d." not in path.name]
    files = [path for path in files if path.is_file() and 1_500 < path.stat().st_size < 60_000]
    counts = collections.Counter(path.suffix for path in files)
    if not counts:
        return None
    suffix = next((item for item in (".ts", ".tsx", ".py") if counts[item] > 4), counts.most_common(1)[0][0])
    chosen = [path for path in files if path.suffix == suffix]
    rng.shuffle(chosen)
    texts = [path.read_text("utf-8", "replace") for path in chosen[:40]]
    words = re.findall(r"\b[A-Za-z_]\w{4,20}\b", "".join(text[:5000] for text in texts[:12]))
    lines = texts[0].split("\n")
    del lines[rng.randrange(len(lines) // 4, len(lines) // 2)]
    wrong = "\n".join(lines).replace("(", "", 1).replace("return ", "retrun ", 2)
    (folder / f"broken{suffix}").write_text(wrong)
    relative = [str(path.relative_to(folder)) for path in chosen[:40]]
    return {
        "file": relative,
        "ext": [suffix[1:]],
        "name": sorted(set(words)) or ["main"],
        "word": COMMANDS["word"],
        "broken": [f"broken{suffix}"],
        "dir": sorted({path.rsplit("/", 1)[0] for path in relative if "/" in path}) or ["."],
        "module": [relative[0].split("/")[0].removesuffix(".py").replace("-", "_")],
        "part": [path.stem for path in chosen[:40]],
    }


def _history(rng: random.Random, folder: pathlib.Path, places: dict[str, list[str]]) -> None:
    """Makes a repository of a few commits, and leaves a few changes uncommitted."""
    _run("git init -q && git add -A && git commit -qm 'Import the sources'", folder, "")
    for number in range(9):
        for name in rng.sample(places["file"], min(len(places["file"]), rng.choice([1, 1, 2, 3]))):
            _change(rng, folder / name)
        if number < 7:
            title = fill(rng.choice(COMMANDS["title"]), lambda slot: Literal(rng.choice(places[slot])))
            _run(f"git add -A && git commit -qm {json.dumps(title)}", folder, "")


def _change(rng: random.Random, path: pathlib.Path) -> None:
    """Changes a few lines: one dropped, one doubled elsewhere, one name renamed."""
    lines = path.read_text("utf-8", "replace").split("\n")
    if len(lines) < 12:
        return
    del lines[rng.randrange(len(lines))]
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    row, ending = rng.randrange(len(lines)), rng.choice(["s", "2", "Value", "_new"])
    lines[row] = re.sub(r"\b(\w{4,})\b", rf"\g<1>{ending}", lines[row], count=1)
    path.write_text("\n".join(lines))


def main() -> None:
    """Writes `<work>/terminal.jsonl` from the downloads that `gather` left in `<work>/cache`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take only every so many trees")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    work = options.work
    with (work / "terminal.jsonl").open("w", encoding="utf-8") as out:
        for item in produce(work / "cache", work / "trees", options.every, options.seed):
            out.write(json.dumps(item) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
