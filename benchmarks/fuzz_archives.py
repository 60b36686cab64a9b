"""Checks that damaged archives end in one sentence: no crash, hang or wrong bytes, and memory within bounds.

    python benchmarks/fuzz_archives.py [--files N] [--networks P] [--seed S] [--first K] [--limit-mb M]
                                       [--seconds T]

Makes small archives with experts alone, with a network, and with one that learns, by both coders, in one and
in many segments. Damages each copy (bits, bytes, cuts) or forges it: header, heads, payloads and index with
other values, huge numbers, records of other archives, checksums that are right. Then lists and decompresses
it, and every fortieth through `sttx`. What comes back as whole must be one of the files that were compressed;
whatever else is listed must be called lost; any error must be an `SttxError` of one line. A share P of the
archives has a network. Prints the counts. At the first failure it prints the options that make the same
archive again (`--first K --files 1`) and exits with 1. An archive that takes more than T seconds of processor
time, or a process that needs M megabytes of address space more than at its start, is a failure.
"""

import contextlib
import dataclasses
import functools
import io
import json
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from forged_archives import Archives
from forging import answer, check_all, parser_of

from sttx_cli.app import run
from sttx_core.errors import DataError
from sttx_core.experts import compile_coding
from sttx_train.coding import Archive, Entry
from sttx_train.coding.container import read_header

THROUGH_ALL = 40


class Kept(io.BytesIO):
    """Remembers a file's content once it is kept."""

    def __init__(self, kept: dict[int, bytes], entry: Entry) -> None:
        super().__init__()
        self._kept, self._number = kept, entry.number

    def keep(self) -> None:
        """Remember the content."""
        assert self._number not in self._kept, "a file is kept twice"
        self._kept[self._number] = self.getvalue()

    def drop(self) -> None:
        """Forget the file."""


def needs_model(path: Path) -> bool:
    """Return whether the header of an archive names a model."""
    try:
        with path.open("rb") as file:
            return "file:" in str(read_header(file).get("method"))
    except DataError:
        return False


def read_all(path: Path, archives: Archives, counts: Counter[str]) -> None:
    """List and decompress an archive, and compare what is kept with the files that were compressed."""
    model = archives.model if needs_model(path) else None
    with Archive(path, model=model) as archive:
        json.dumps([dataclasses.asdict(entry) for entry in archive.entries])
        _ = archive.identity, archive.profile, archive.first_damage()
        kept: dict[int, bytes] = {}
        damage = archive.read(archive.entries, lambda entry: Kept(kept, entry))
        known = set(archives.files.values())
        for entry in archive.entries:
            if entry.number in kept:
                assert kept[entry.number] in known, f"{entry.path!r} came back as other bytes"
                counts["files kept"] += 1
            else:
                assert entry.path in damage.lost, f"{entry.path!r} is missing"
                counts["files lost"] += 1


def through_sttx(path: Path, model: str, counts: Counter[str]) -> None:
    """Use the commands on an archive; nothing may be written outside of the folder that is named."""
    inside = path.parent / "out"
    before = sorted(path.parent.iterdir())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run(["list", str(path), "--json"]) in (0, 1)
        needed = ["--model", model] if needs_model(path) else []
        assert run(["test", str(path), *needed]) in (0, 1, 2)
        assert run(["decompress", str(path), "-o", f"{inside}/", *needed]) in (0, 1, 2)
    if inside.exists():
        shutil.rmtree(inside)
    after = sorted(path.parent.iterdir())
    assert after == before, f"files were written outside of the folder: {after}"
    counts["through sttx"] += 1


def read(path: Path, archives: Archives, number: int, counts: Counter[str]) -> None:
    """Read an archive in every way."""
    answer(lambda: read_all(path, archives, counts), counts, "archives")
    if number % THROUGH_ALL == 0:
        through_sttx(path, archives.model, counts)


def limit_memory(more_mb: int) -> None:
    """Let a call that needs more address space than now and so many megabytes fail with `MemoryError`."""
    status = Path("/proc/self/statm")
    if status.exists():
        used = int(status.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more_mb * 2**20, resource.RLIM_INFINITY))


def main() -> int:
    """Forge and read archives, and print the counts."""
    parser = parser_of(str(__doc__), files=10_000, limit_mb=2500, seconds=20)
    parser.add_argument("--networks", type=float, default=0.1, metavar="P")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    compile_coding()
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as folder:
        archives, path = Archives(Path(place)), Path(folder, "x.sttx")

        def made(number: int, dice: random.Random) -> Callable[[], None]:
            path.write_bytes(archives.forged(dice, options.networks))
            return functools.partial(read, path, archives, number, counts)

        made(options.first, random.Random(f"{options.seed}/{options.first}"))
        read(path, archives, 0, Counter())  # imports what is needed
        limit_memory(options.limit_mb)
        return check_all(options, "archive", made, counts, also=f" --networks {options.networks}")


if __name__ == "__main__":
    sys.exit(main())
