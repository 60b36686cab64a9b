"""Collects permissively licensed text into one JSON-lines file of documents.

It downloads the packages of `sources.py` with the ordinary clients, keeps the text files in them, drops exact and
near duplicates, and caps each package and each kind. It does not know what the text is used for.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator

import sources

KINDS = {
    "python": ".py .pyi",
    "typescript": ".ts .tsx .mts .cts",
    "javascript": ".js .jsx .mjs .cjs .svelte .vue",
    "go": ".go .mod",
    "rust": ".rs",
    "c": ".c .h .cc .cpp .hpp",
    "csharp": ".cs",
    "shell": ".sh .bash .zsh .bats",
    "json": ".json .jsonc",
    "yaml": ".yaml .yml .toml .cfg .ini",
    "prose": ".md .mdx .rst .txt",
    "web": ".css .html .scss",
}
KIND_OF = {extension: kind for kind, extensions in KINDS.items() for extension in extensions.split()}
KIND_CAP = {
    "python": 34, "typescript": 38, "javascript": 16, "go": 34, "rust": 22, "c": 8, "csharp": 3, "shell": 3,
    "json": 12, "yaml": 5, "prose": 30, "man": 7, "web": 2, "log": 8,
}  # in 1e6 bytes
PACKAGE_CAP = 5_000_000
FILE_CAP = 64_000
PACKAGE_CAPS = {"golang-1.19-src": 14_000_000, "python3.11-doc": 8_000_000, "typescript": 7_000_000, "rust-src": 8_000_000,
                "ruff": 7_000_000, "uv": 7_000_000, "golang-github-docker-docker-dev": 7_000_000}
REFUSED = re.compile(r"GPL|CC-BY-NC|Commercial|UNLICENSED|SEE LICENSE", re.I)


def run(command: list[str], cwd: pathlib.Path) -> str:
    """Runs a command and returns its standard output, or an empty string when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"failed: {' '.join(command)}: {done.stderr.strip()[-200:]}", file=sys.stderr)
        return ""
    return done.stdout


def one_new_file(folder: pathlib.Path, command: list[str]) -> pathlib.Path | None:
    """The file that `command` leaves in `folder`; the folder itself is the cache, one per package."""
    folder.mkdir(parents=True, exist_ok=True)
    present = [path for path in folder.iterdir() if path.is_file()]
    if not present:
        run(command, folder)
        present = [path for path in folder.iterdir() if path.is_file()]
    return present[0] if present else None


def tar_members(stream: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """The regular files of a tar archive."""
    for member in stream:
        if member.isfile() and member.size < 2_000_000:
            handle = stream.extractfile(member)
            if handle:
                yield member.name, handle.read()


def archive_members(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """The regular files of a wheel, an npm or source tarball, or a Debian package."""
    if path.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(path) as bundle:
            for item in bundle.infolist():
                if not item.is_dir() and item.file_size < 2_000_000:
                    yield item.filename, bundle.read(item)
    elif path.suffix == ".deb":
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as bundle:
            yield from tar_members(bundle)
    else:
        with tarfile.open(path) as bundle:
            yield from tar_members(bundle)


def fetch(manager: str, name: str, cache: pathlib.Path) -> pathlib.Path | None:
    """Downloads one package and returns its archive."""
    folder = cache / manager / re.sub(r"[^\w.-]", "_", name)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
    command = {
        "npm": ["npm", "pack", "--silent", name],
        "wheel": [*pip, name],
        "sdist": [*pip, "--no-binary", name, name],
        "deb": ["apt-get", "download", "-qq", name],
    }[manager]
    return one_new_file(folder, command)


def declared_licence(members: dict[str, bytes]) -> str:
    """What the package itself says its licence is."""
    for name, data in members.items():
        if re.fullmatch(r"[^/]+/package\.json", name):
            licence = json.loads(data).get("license", "")
            return licence if isinstance(licence, str) else str(licence.get("type"))
        if re.search(r"\.dist-info/METADATA$|^[^/]+/PKG-INFO$", name):
            head = data.decode("utf-8", "replace").split("\n\n")[0]
            found = re.findall(r"^License-Expression: (.+)$|^Classifier: License :: (?:OSI Approved :: )?(.+)$|^License: (.{1,60})$", head, re.M)
            return " / ".join(dict.fromkeys("".join(item) for item in found))
        if re.search(r"usr/share/doc/[^/]+/copyright$", name):
            text = data.decode("utf-8", "replace")
            found = re.search(r"^Files:\s*\*\s*\n(?:.+\n)*?License:\s*(.+)$", text, re.M)
            return found.group(1) if found else "see copyright"
    return ""


def render_man(data: bytes) -> str:
    """A manual page as a terminal shows it."""
    done = subprocess.run(["man", "-l", "-"], input=data, capture_output=True, check=False,
                          env={"MANWIDTH": "90", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    return re.sub(r"\n{3,}", "\n\n", done.stdout.decode("utf-8", "replace")).strip() + "\n"


def kind_of(name: str) -> str | None:
    """The kind of text that a file name promises, or None."""
    if re.search(r"usr/share/man/man\d/[^/]+\.\w+(\.gz)?$", name):
        return "man"
    base = name.rsplit("/", 1)[-1]
    if re.search(r"min\.(js|css)$|-lock\.|\.map$|\.lock$|LICEN[CS]E|COPYING|NOTICE|top_level|RECORD", base):
        return None
    suffix = "." + base.rsplit(".", 1)[-1] if "." in base else ""
    if name.endswith(".rst.txt"):
        return "prose"
    return KIND_OF.get(suffix) or ("prose" if re.match(r"README|CHANGE|HISTORY|NEWS|CONTRIBUTING", base) else None)


def readable(text: str, kind: str) -> bool:
    """Whether a text is worth learning: neither tiny, nor minified, nor mostly beyond ASCII."""
    if not 200 <= len(text):
        return False
    lines = text.count("\n") + 1
    if len(text) / lines > (400 if kind == "prose" else 110):
        return False
    return len(text.encode()) - len(text) < 0.08 * len(text)


class Collector:
    """Keeps what is new: exact copies, files mostly of lines seen before, and overfull kinds are dropped."""

    def __init__(self) -> None:
        self.files: set[bytes] = set()
        self.lines: set[int] = set()
        self.kinds: collections.Counter[str] = collections.Counter()

    def accept(self, text: str, kind: str) -> bool:
        """Whether the text is new enough and its kind has room; if so it is remembered."""
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if digest in self.files or self.kinds[kind] > KIND_CAP[kind] * 1e6:
            return False
        self.files.add(digest)
        lines = {hash(line) for line in map(str.strip, text.split("\n")) if len(line) > 20}
        fresh = lines - self.lines
        if not lines or len(fresh) < 0.4 * len(lines):
            return False
        self.lines |= fresh
        self.kinds[kind] += len(text)
        return True


def decode(data: bytes, kind: str, name: str) -> str | None:
    """The text of a file in UTF-8 with Unix line ends, or None when it is not text; manual pages are rendered."""
    if kind == "man":
        return render_man(gzip.decompress(data) if name.endswith(".gz") else data)
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def documents(manager: str, name: str, path: pathlib.Path, collector: Collector) -> tuple[dict, list[dict]]:
    """One package's manifest entry and its accepted documents."""
    members = dict(archive_members(path))
    entry = {"package": name, "from": manager, "file": path.name, "licence": declared_licence(members), "bytes": 0,
             "kinds": {}}
    if REFUSED.search(entry["licence"]) and " OR " not in entry["licence"]:
        entry["refused"] = True
        return entry, []
    kept: list[dict] = []
    order = sorted(members, key=lambda item: hashlib.md5(item.encode()).digest())
    cap = PACKAGE_CAPS.get(name.split("@5")[0], PACKAGE_CAP)
    for member in order:
        kind = kind_of(member)
        if kind is None or entry["bytes"] > cap or (kind == "man" and entry["kinds"].get("man", 0) > 2_500_000):
            continue
        text = decode(members[member], kind, member)
        if text is None or not readable(text, kind):
            continue
        if len(text) > FILE_CAP:
            text = text[: text.rfind("\n", 0, FILE_CAP) + 1]
        if len(text) < 200 or not collector.accept(text, kind):
            continue
        entry["bytes"] += len(text.encode())
        entry["kinds"][kind] = entry["kinds"].get(kind, 0) + len(text.encode())
        inner = re.sub(r"^(\./)?(package/|usr/(share|lib|include)/)", "", member)
        kept.append({"package": name, "path": inner, "kind": kind, "text": text})
    return entry, kept


def main() -> None:
    """Gathers every package into `<out>/files.jsonl` and `<out>/manifest.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    collector, manifest = Collector(), []
    wanted = [(manager, name) for manager, names in
              (("npm", sources.NPM), ("deb", sources.DEBS), ("wheel", sources.WHEELS), ("sdist", sources.SDISTS)) for name in names]
    with (options.out / "files.jsonl").open("w", encoding="utf-8") as out:
        for manager, name in wanted:
            path = fetch(manager, name, options.out / "cache")
            if path is None:
                manifest.append({"package": name, "from": manager, "missing": True})
                continue
            entry, kept = documents(manager, name, path, collector)
            manifest.append(entry)
            print(manager, name, entry["licence"][:50], entry["bytes"], "REFUSED" if "refused" in entry else "", flush=True)
            out.writelines(json.dumps(item) + "\n" for item in kept)
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1))
    print(dict(collector.kinds), sum(collector.kinds.values()))


if __name__ == "__main__":
    main()
