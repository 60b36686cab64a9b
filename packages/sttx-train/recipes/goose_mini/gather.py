"""Downloads the packages of `packages.toml` and keeps their text in one JSON-lines file of documents.

The clients are the ordinary ones: `npm pack`, `apt-get download`, `pip download`. Downloads are cached,
so that a second run needs no network. What is worth keeping is `selection`'s business; what it is for is
nobody's here.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator

from selection import Collector, is_permissive, is_readable, kind_of, without_licence_header

HERE = pathlib.Path(__file__).parent
LARGEST_FILE = 2_000_000
LONGEST_TEXT = 64_000
MANUAL_SHARE = 1_500_000
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-clean"]


def fetch(manager: str, name: str, cache: pathlib.Path) -> pathlib.Path | None:
    """A package's archive, or the folder that pip unpacked where a source package cannot be prepared here."""
    folder = cache / manager / re.sub(r"[^\w.-]", "_", name)
    folder.mkdir(parents=True, exist_ok=True)
    command = {
        "npm": ["npm", "pack", "--silent", name],
        "deb": ["apt-get", "download", "-qq", name],
        "wheel": [*PIP, name],
        "sdist": [*PIP, "--no-binary", name, name],
    }[manager]
    if not any(folder.iterdir()):
        scratch = folder / "unpacked"
        scratch.mkdir()
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": str(scratch)},
            check=False,
        )
        if done.returncode:
            print(f"failed: {' '.join(command)}: {done.stderr.strip()[-200:]}", file=sys.stderr)
    archives = [path for path in folder.iterdir() if path.is_file()]
    unpacked = [path.parent for path in sorted(folder.glob("unpacked/pip-download-*/*/PKG-INFO"))]
    return next(iter(archives + unpacked), None)


def members_of(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """The regular files of a wheel, a tarball, a Debian package or a folder."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.stat().st_size < LARGEST_FILE:
                yield f"package/{file.relative_to(path)}", file.read_bytes()
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as bundle:
            for item in bundle.infolist():
                if not item.is_dir() and item.file_size < LARGEST_FILE:
                    yield item.filename, bundle.read(item)
    else:
        stream = None
        if path.suffix == ".deb":
            unpacked = subprocess.run(
                ["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=True
            )
            stream = io.BytesIO(unpacked.stdout)
        with tarfile.open(None if stream else path, fileobj=stream) as bundle:
            for member in bundle:
                handle = (
                    bundle.extractfile(member) if member.isfile() and member.size < LARGEST_FILE else None
                )
                if handle:
                    yield member.name, handle.read()


def declared_licence(members: dict[str, bytes]) -> str:
    """What a package says its licence is: in package.json, METADATA, PKG-INFO or Debian's copyright."""
    for name, data in members.items():
        text = data.decode("utf-8", "replace")
        if re.fullmatch(r"[^/]+/package\.json", name):
            licence = json.loads(text).get("license", "")
            return licence if isinstance(licence, str) else str(licence.get("type"))
        if re.fullmatch(r"[^/]+(\.dist-info/METADATA|/PKG-INFO)", name):
            head = text.split("\n\n")[0]
            pattern = (
                r"^License(?:-Expression)?: (.{1,80})$|^Classifier: License :: (?:OSI Approved :: )?(.+)$"
            )
            return " / ".join(dict.fromkeys("".join(found) for found in re.findall(pattern, head, re.M)))
        if re.search(r"usr/share/doc/[^/]+/copyright$", name):
            found = re.search(r"^Files:\s*\*\s*\n(?:.+\n)*?License:\s*(.+)$", text, re.M)
            return found.group(1) if found else ""
    return ""


def text_of(name: str, data: bytes, kind: str) -> str | None:
    """A file as UTF-8 with Unix line ends, manual pages as a terminal shows them; None if it is not text."""
    try:
        if kind != "man":
            return without_licence_header(data.decode("utf-8").replace("\r\n", "\n"))
        page = gzip.decompress(data) if name.endswith(".gz") else data
    except (UnicodeDecodeError, OSError):
        return None
    shown = subprocess.run(
        ["man", "-l", "-"],
        input=page,
        capture_output=True,
        check=False,
        env={"MANWIDTH": "90", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    return re.sub(r"\n{3,}", "\n\n", shown.stdout.decode("utf-8", "replace")).strip() + "\n"


def documents_of(
    name: str, members: dict[str, bytes], cap: int, collector: Collector
) -> list[dict[str, str]]:
    """The accepted texts of a package, in an arbitrary order that is always the same, until `cap` bytes."""
    kept: list[dict[str, str]] = []
    size = manual = 0
    for member in sorted(members, key=lambda path: hashlib.md5(path.encode()).digest()):
        kind = kind_of(member)
        if kind is None or size > cap or (kind == "man" and manual > MANUAL_SHARE):
            continue
        text = text_of(member, members[member], kind)
        if text is None or not is_readable(text, kind):
            continue
        if len(text) > LONGEST_TEXT:
            text = text[: text.rfind("\n", 0, LONGEST_TEXT) + 1]
        if not collector.accept(text, kind):
            continue
        size += len(text.encode())
        manual += len(text) if kind == "man" else 0
        inner = re.sub(r"^(\./)?(package/|usr/(share|lib|include)/)", "", member)
        kept.append({"package": name, "path": inner, "kind": kind, "text": text})
    return kept


def gather_package(
    manager: str, name: str, plan: dict, cache: pathlib.Path, collector: Collector
) -> tuple[dict, list[dict[str, str]]]:
    """A package's manifest entry and its documents."""
    path = fetch(manager, name, cache)
    if path is None:
        return {"package": name, "from": manager, "outcome": "could not be downloaded"}, []
    members = dict(members_of(path))
    licence = plan["read_by_hand"].get(name) or declared_licence(members)
    entry = {"package": name, "from": manager, "version": version_of(manager, path), "licence": licence}
    if name not in plan["read_by_hand"] and not is_permissive(licence, plan["accepted"]):
        return entry | {"outcome": "refused for its licence"}, []
    plain = re.sub(r"(?<=.)@.*", "", name)
    kept = documents_of(name, members, plan["caps"].get(plain, plan["caps"]["each"]), collector)
    sizes: dict[str, int] = {}
    for item in kept:
        sizes[item["kind"]] = sizes.get(item["kind"], 0) + len(item["text"].encode())
    return entry | {
        "outcome": "used" if kept else "nothing new",
        "bytes": sum(sizes.values()),
        "kinds": sizes,
    }, kept


def version_of(manager: str, path: pathlib.Path) -> str:
    """The version in an archive's or folder's name.

    >>> version_of("npm", pathlib.Path("types-node-24.1.0.tgz"))
    '24.1.0'
    """
    if manager == "deb":
        return path.name.split("_")[1].replace("%3a", ":")
    if path.is_dir():
        found = re.search(r"^Version: (.+)$", (path / "PKG-INFO").read_text(), re.M)
    else:
        found = re.search(r"-(\d[\w.+]*?)(?:-(?:py|cp)\d.*|\.tgz|\.tar\.gz)", path.name)
    return found.group(1) if found else ""


def main() -> None:
    """Writes `<work>/files.jsonl` and `<work>/manifest.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where downloads and results go")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    plan = tomllib.loads((HERE / "packages.toml").read_text())
    collector, manifest = Collector(plan["kinds"]), []
    with (work / "files.jsonl").open("w", encoding="utf-8") as out:
        for manager in ("npm", "deb", "sdist", "wheel"):
            for name in plan[manager]["names"]:
                entry, kept = gather_package(manager, name, plan, work / "cache", collector)
                manifest.append(entry)
                print(*entry.values(), flush=True)
                out.writelines(json.dumps(item) + "\n" for item in kept)
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(dict(collector.kinds), sum(collector.kinds.values()))


if __name__ == "__main__":
    main()
