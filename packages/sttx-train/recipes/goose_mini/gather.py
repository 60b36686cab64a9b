"""Downloads the packages of `packages.toml` and keeps their text in one JSON-lines file of documents.

It uses the ordinary clients: `npm pack`, `apt-get download`, `apt-get source`, `pip download`. Downloads are
cached (`downloads`), so an interrupted run continues and a second run needs no network. `selection` decides
which files are kept. For a smaller corpus, `--share` lowers the limit of each package, except for its
validation folders, and `--seed` draws other files within it.
"""

import argparse
import gzip
import hashlib
import io
import json
import pathlib
import re
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence

from debian import COPYRIGHT, is_source, licence_of, paragraphs_of, source_members
from downloads import fetch, fetch_all
from near_duplicates import NearDuplicates, signature
from selection import (
    Collector,
    has_own_copyleft,
    in_validation,
    is_permissive,
    is_readable,
    kind_of,
    kind_of_text,
    without_licence_header,
)

HERE = pathlib.Path(__file__).parent
LARGEST_FILE = 2_000_000
LONGEST_TEXT = 64_000
MANUAL_SHARE = 1_500_000
MANAGERS = ("npm", "deb", "source", "sdist", "wheel")


def members_of(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a wheel, a tarball, a Debian package or source package, or a folder."""
    if is_source(path):
        for inner, data in source_members(path, LARGEST_FILE, lambda name: kind_of(name) is not None):
            yield f"package/{inner}", data
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and not file.is_symlink() and file.stat().st_size < LARGEST_FILE:
                yield f"package/{file.relative_to(path)}", file.read_bytes()
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as bundle:
            for item in bundle.infolist():
                if not item.is_dir() and item.file_size < LARGEST_FILE:
                    yield item.filename, bundle.read(item)
    else:
        yield from _tar_members(path)


def _tar_members(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a tarball, or of the tarball inside a Debian package."""
    stream = None
    if path.suffix == ".deb":
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], capture_output=True, check=True)
        stream = io.BytesIO(unpacked.stdout)
    with tarfile.open(None if stream else path, fileobj=stream) as bundle:
        for member in bundle:
            handle = bundle.extractfile(member) if member.isfile() and member.size < LARGEST_FILE else None
            if handle:
                yield member.name, handle.read()


def declared_licence(members: dict[str, bytes]) -> str:
    """Return the declared license: from package.json, METADATA, PKG-INFO or Debian's copyright."""
    for name, data in members.items():
        text = data.decode("utf-8", "replace")
        if re.fullmatch(r"[^/]+/package\.json", name):
            licence = json.loads(text).get("license", "")
            return str(licence.get("type") if isinstance(licence, dict) else licence)
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
    """Return a file as text with Unix line ends, manual pages as in a terminal; None if it is not UTF-8."""
    try:
        if kind == "notebook":
            return notebook_text(data.decode("utf-8"))
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


def notebook_text(data: str) -> str | None:
    """Return a notebook as JSON with its pictures cut short; None if it is not JSON."""
    try:
        book = json.loads(data)
    except json.JSONDecodeError:
        return None
    shown = json.dumps(book, indent=1, ensure_ascii=False)
    return re.sub(r'("image/[\w+]+": "[^"]{60})[^"]*"', r'\1..."', shown) + "\n"


def inner_path(member: str) -> str:
    """Return a file's path in the corpus from its path in the archive.

    >>> inner_path("package/src/a.ts"), inner_path("./usr/share/doc/jq/README")
    ('src/a.ts', 'doc/jq/README')
    """
    return re.sub(r"^(\./)?(package/|usr/(share|lib|include)/)", "", member)


def documents_of(
    name: str,
    members: dict[str, bytes],
    cap: int,
    collector: Collector,
    accepted: Sequence[str] = (".",),
    *,
    share: float = 1.0,
    seed: str = "",
) -> list[dict[str, str]]:
    """Return the accepted texts of a package in the arbitrary order of a seed.

    Training gets `share` of `cap` bytes, and validation as much as `cap`.
    """
    kept: list[dict[str, str]] = []
    limits, sizes, manual = {False: cap * share, True: cap}, {False: 0, True: 0}, 0
    for member in sorted(members, key=lambda path: hashlib.md5((seed + path).encode()).digest()):
        kind = kind_of(member)
        apart = in_validation({"package": name, "path": inner_path(member)})
        if kind is None or sizes[apart] > limits[apart] or (kind == "man" and manual > MANUAL_SHARE):
            continue
        text = text_of(member, members[member], kind)
        if text is None or has_own_copyleft(members[member][:2000].decode("utf-8", "replace"), accepted):
            continue
        kind = kind_of_text(text, kind)
        if not is_readable(text, kind):
            continue
        if len(text) > LONGEST_TEXT:
            text = text[: text.rfind("\n", 0, LONGEST_TEXT) + 1]
        row = {"package": name, "path": inner_path(member), "kind": kind, "text": text}
        if not collector.accept(row):
            continue
        sizes[apart] += len(text.encode())
        manual += len(text) if kind == "man" else 0
        kept.append(row)
    return kept


def gather_package(
    manager: str, name: str, plan: dict, cache: pathlib.Path, collector: Collector
) -> tuple[dict, list[dict[str, str]]]:
    """Return a package's manifest entry and its documents."""
    path = fetch(manager, name, cache)
    if path is None:
        return {"package": name, "from": manager, "outcome": "could not be downloaded"}, []
    members = dict(members_of(path))
    by_hand = plan["read_by_hand"].get(name, "")
    licence = by_hand or declared_licence(members)
    if manager == "source":
        licence, members = permissive_part(members, by_hand, plan["accepted"])
    entry = {"package": name, "from": manager, "version": version_of(manager, path), "licence": licence}
    if not members or (not by_hand and not is_permissive(licence, plan["accepted"])):
        return entry | {"outcome": "refused for its licence"}, []
    plain = re.sub(r"(?<=.)@.*", "", name)
    cap = plan["caps"].get(plain, plan["caps"]["each"])
    options = {"share": plan["share"], "seed": plan["seed"]}
    kept = documents_of(name, members, cap, collector, plan["accepted"], **options)
    sizes: dict[str, int] = {}
    for item in kept:
        sizes[item["kind"]] = sizes.get(item["kind"], 0) + len(item["text"].encode())
    return entry | {
        "outcome": "used" if kept else "nothing new",
        "bytes": sum(sizes.values()),
        "kinds": sizes,
    }, kept


def permissive_part(
    members: dict[str, bytes], by_hand: str, accepted: Sequence[str]
) -> tuple[str, dict[str, bytes]]:
    """Return a source package's main license, and its files whose own license is permissive.

    A licence read by hand replaces the main one; a file with its own paragraph is judged by that.
    """
    text = members.get(f"package/{COPYRIGHT}", b"").decode("utf-8", "replace")
    paragraphs = paragraphs_of(text)
    main = next((licence for globs, licence in paragraphs if globs.pattern == ".*"), "")
    fine = {licence: is_permissive(licence, accepted) for _, licence in paragraphs} | {"": bool(by_hand)}
    fine[main] = fine[main] or bool(by_hand)
    kept = {
        name: data
        for name, data in members.items()
        if fine[licence_of(name.removeprefix("package/"), paragraphs)] and not name.endswith(COPYRIGHT)
    }
    return by_hand or main, kept


def version_of(manager: str, path: pathlib.Path) -> str:
    """Return the version in an archive's or folder's name.

    >>> version_of("npm", pathlib.Path("types-node-24.1.0.tgz"))
    '24.1.0'
    """
    if manager == "deb":
        return path.name.split("_")[1].replace("%3a", ":")
    if manager == "source":
        return next(path.glob("*.dsc")).stem.split("_")[1]
    if path.is_dir():
        found = re.search(r"^Version: (.+)$", (path / "PKG-INFO").read_text(), re.M)
    else:
        found = re.search(r"-(\d[\w.+]*?)(?:-(?:py|cp)\d.*|\.tgz|\.tar\.gz)", path.name)
    return found.group(1) if found else ""


def known_texts(folder: pathlib.Path | None) -> NearDuplicates:
    """Return the documents of a folder's `.txt` files, separated by form feeds; empty without a folder."""
    known = NearDuplicates()
    if folder is not None:
        paths = sorted(folder.glob("*.txt"))
        if not paths:
            raise SystemExit(f"{folder} has no .txt files: name the validation folder of an earlier corpus")
        for text in (text for path in paths for text in path.read_text("utf-8").split("\f")):
            known.add(signature(text))
    return known


def main() -> None:
    """Write `<work>/files.jsonl`, `<work>/manifest.json` and `<work>/newness.json` (bytes by kind)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where downloads and results go")
    parser.add_argument(
        "--apart-from",
        type=pathlib.Path,
        help="the validation folder of an earlier corpus: nothing similar to its texts gets into training",
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of each package's limit of bytes, for training"
    )
    parser.add_argument("--seed", default="", help="another seed keeps other files of the packages")
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    plan = tomllib.loads((HERE / "packages.toml").read_text()) | {
        "share": options.share,
        "seed": options.seed,
    }
    fetch_all({manager: plan[manager]["names"] for manager in MANAGERS}, work / "cache")
    collector, manifest = Collector(plan["kinds"], known_texts(options.apart_from)), []
    with (work / "files.jsonl").open("w", encoding="utf-8") as out:
        for manager in MANAGERS:
            for name in plan[manager]["names"]:
                entry, kept = gather_package(manager, name, plan, work / "cache", collector)
                manifest.append(entry)
                print(*entry.values(), flush=True)
                out.writelines(json.dumps(item) + "\n" for item in kept)
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    report = {"kept": collector.kinds} | {
        f"refused: {key}": value for key, value in collector.refused.items()
    }
    (work / "newness.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: sum(value.values()) for key, value in report.items()}, indent=1))


if __name__ == "__main__":
    main()
