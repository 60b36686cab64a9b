"""Compresses files and decompresses them again, and compares every byte: real ones, and generated ones.

    python benchmarks/roundtrip.py FOLDER... [--levels fast network] [--coders ac rans] [--most-bytes N]
                                   [--generated N] [--long-line MB] [--apart] [--profile native]

All files below the folders stand in one archive, or with --apart each in an archive of its own. Generated
files are empty, single bytes, random, text that is cut within characters, long lines, and lines of JSON with
odd spacing, numbers, escapes, repeated names and ends. They are decompressed by this process, and by another
one, which remembers nothing. Exits with 1 at the first file that differs.
"""

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sttx_core.experts import compile_coding
from sttx_train.coding import Archive, CompressConfig, Member, compress, extract, method_of

ODD_VALUES = (
    *("1", "-0", "1.0", "1e5", "1E+05", "0.1000", "123456789012345678901234567890", "true", "null", "NaN"),
    *('""', '"\\u0041\\/\\n"', '"\\ud83d\\ude00"', '"\\ud800"', '"é😀"', "[]", "[ ]"),
    *('{"a" : [1 , 2]}', '{"a":1,"a":2}', '"2026-12-01T10:00:00.000Z"', '"iVBORw0KGgoAAAANSUhEUgAAAAUA"'),
    '"0f8c1a2b-1d2e-4a3b-8c4d-5e6f7a8b9c0d"',
)


def odd_lines(dice: random.Random) -> bytes:
    """Return lines of JSON, or nearly, as no program writes all of them."""
    lines = []
    for _ in range(dice.randrange(1, 30)):
        space = dice.choice(("", "", " ", "  ", "\t"))
        fields = [
            f'"{dice.choice("abc")}"{space}:{space}{dice.choice(ODD_VALUES)}'
            for _ in range(dice.randrange(6))
        ]
        lines.append(f"{{{space}{f'{space},{space}'.join(fields)}{space}}}")
    end = dice.choice(("\n", "\n", "\r\n", "\n\n", " \n"))
    text = dice.choice(("", "", "\ufeff", "\n")) + end.join(lines) + dice.choice((end, end, "", '{"a":'))
    data = text.encode()
    at = dice.randrange(len(data))
    return data if dice.random() < 0.7 else data[:at] + dice.randbytes(2) + data[at + 1 :]


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
        lambda: odd_lines(dice),
        lambda: odd_lines(dice) * 3,
    )
    paths = []
    for number in range(count):
        path = folder / f"{number:05}"
        path.write_bytes(kinds[number % len(kinds)]())
        paths.append(path)
    return paths


def long_line(folder: Path, size: int, dice: random.Random) -> Path:
    """Write a file of one line of JSON with so many bytes; return it."""
    path = folder / "long"
    words = [f"{word:x} ran" for word in dice.choices(range(4096), k=size // 6)]
    path.write_text(f'{{"type":"user","text":"{" ".join(words)[: size - 30]}"}}\n')
    return path


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


def check(paths: list[Path], level: str, coder: str, profile: str) -> tuple[int, int]:
    """Compress and decompress files; return their bytes, and those of the archive.

    Raises:
        SystemExit: a file is not what it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "a.sttx")
        members = [Member(name=f"f/{number}", path=path) for number, path in enumerate(paths)]
        method = method_of(level, profile=profile)
        done = compress(members, archive, CompressConfig(coder=coder), method=method)
        here, there = Path(folder, "here"), Path(folder, "there")
        with Archive(archive) as opened:
            extract(opened, opened.entries, here, one_file=False)
        again = [sys.executable, "-m", "sttx_cli", "decompress", str(archive), "-o", f"{there}/"]
        subprocess.run(again, check=True, capture_output=True)
        for out, member in itertools.product((here, there), members):
            assert member.path is not None
            if (out / member.name).read_bytes() != member.path.read_bytes():
                raise SystemExit(
                    f"{member.path} came back as other bytes ({level}, {coder}, {profile}, {out.name})"
                )
    return done.bytes_in, done.bytes_out


def main() -> None:
    """Check all files of folders, and generated ones."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--levels", nargs="+", default=["fast"], choices=["fast", "network", "best"])
    parser.add_argument("--coders", nargs="+", default=["ac", "rans"], choices=["ac", "rans"])
    parser.add_argument("--profile", default="portable", choices=["portable", "native"])
    parser.add_argument("--most-bytes", type=int, default=1 << 40)
    parser.add_argument("--generated", type=int, default=0, metavar="N")
    parser.add_argument("--long-line", type=int, default=0, metavar="MB", help="one line of so many MB")
    parser.add_argument("--apart", action="store_true", help="one archive for each file")
    arguments = parser.parse_args()
    compile_coding()
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(path for top in arguments.folders for path in top.rglob("*") if path.is_file())
        paths = fitting(paths, arguments.most_bytes)
        paths += generated(Path(folder), arguments.generated, random.Random(0))
        if arguments.long_line:
            paths.append(long_line(Path(folder), arguments.long_line * 1_000_000, random.Random(1)))
        for level in arguments.levels:
            for coder in arguments.coders:
                start = time.process_time()
                totals = [
                    check(group, level, coder, arguments.profile) for group in groups(paths, arguments.apart)
                ]
                read, written = (sum(column) for column in zip(*totals, strict=True))
                seconds = time.process_time() - start
                print(
                    f"{level}, {coder}, {arguments.profile}: {len(paths)} files, {read:,} bytes in, "
                    f"{written:,} out, all the same twice; {seconds:.0f} s of processor time in this process",
                    flush=True,
                )


if __name__ == "__main__":
    main()
