"""Compresses files and decompresses them again, and compares every byte: real ones, and generated ones.

    python benchmarks/roundtrip.py FOLDER... [--levels fast default] [--coders ac rans] [--most-bytes N]
                                   [--generated N] [--apart]

All files below the folders stand in one archive, or with --apart each in an archive of its own. Generated
files are empty, single bytes, random, text that is cut within characters, and long lines. Decompressing is
done by another process, so that nothing is remembered. Exits with 1 at the first file that differs.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sttx_core.experts import compile_coding
from sttx_train.coding import CompressConfig, Member, compress, method_of


def generated(folder: Path, count: int, dice: random.Random) -> list[Path]:
    """Write files of all kinds; return them."""
    words = ["test", "файл", "✓", "😀", "\n", " ", "the", '{"a":1}', "é"]
    kinds = (
        lambda: b"",
        lambda: bytes([dice.randrange(256)]),
        lambda: dice.randbytes(dice.randrange(1, 400)),
        lambda: "".join(dice.choices(words, k=dice.randrange(1, 80))).encode()[dice.randrange(3) : -1],
        lambda: bytes([dice.randrange(32, 127)]) * dice.randrange(1, 2000),
        lambda: b"ab\0\xff" * dice.randrange(1, 300),
    )
    paths = []
    for number in range(count):
        path = folder / f"{number:05}"
        path.write_bytes(kinds[number % len(kinds)]())
        paths.append(path)
    return paths


def fitting(paths: list[Path], most: int) -> list[Path]:
    """Return files, in the order of their names, as long as they fit."""
    chosen = []
    for path in paths:
        if (size := path.stat().st_size) <= most:
            chosen.append(path)
            most -= size
    return chosen


def groups(paths: list[Path], apart: bool) -> Iterator[list[Path]]:
    """Yield the files of each archive."""
    if apart:
        yield from ([path] for path in paths)
    else:
        yield paths


def check(paths: list[Path], level: str, coder: str) -> tuple[int, int]:
    """Compress and decompress files; return their bytes, and those of the archive.

    Raises:
        SystemExit: a file is not what it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder, "a.sttx"), Path(folder, "out")
        members = [Member(name=f"f/{number}", path=path) for number, path in enumerate(paths)]
        done = compress(members, archive, CompressConfig(coder=coder), method=method_of(level))
        again = [sys.executable, "-m", "sttx_cli", "decompress", str(archive), "-o", str(out)]
        subprocess.run(again, check=True, capture_output=True)
        for member in members:
            assert member.path is not None
            if (out / member.name).read_bytes() != member.path.read_bytes():
                raise SystemExit(f"{member.path} came back as other bytes (level {level}, coder {coder})")
    return done.bytes_in, done.bytes_out


def main() -> None:
    """Check all files of folders, and generated ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--levels", nargs="+", default=["fast"], choices=["fast", "default", "best"])
    parser.add_argument("--coders", nargs="+", default=["ac", "rans"], choices=["ac", "rans"])
    parser.add_argument("--most-bytes", type=int, default=1 << 40)
    parser.add_argument("--generated", type=int, default=0, metavar="N")
    parser.add_argument("--apart", action="store_true", help="one archive for each file")
    arguments = parser.parse_args()
    compile_coding()
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(path for top in arguments.folders for path in top.rglob("*") if path.is_file())
        paths = fitting(paths, arguments.most_bytes)
        paths += generated(Path(folder), arguments.generated, random.Random(0))
        for level in arguments.levels:
            for coder in arguments.coders:
                start = time.process_time()
                totals = [check(group, level, coder) for group in groups(paths, arguments.apart)]
                read, written = (sum(column) for column in zip(*totals, strict=True))
                seconds = time.process_time() - start
                print(
                    f"{level}, {coder}: {len(paths)} files, {read:,} bytes in, {written:,} out, all the "
                    f"same; {seconds:.0f} s of processor time to compress",
                    flush=True,
                )


if __name__ == "__main__":
    main()
