"""Checks that an archive decodes under other settings: threads, vector instructions of PyTorch, and of numba.

    python benchmarks/settings.py FILE [--most-bytes N]

Compresses the first bytes of FILE by levels fast and network, with both coders, and decompresses each archive
by another process for each setting. Exits with 1 if any byte differs. A generic processor is compiled for
from nothing, which takes minutes.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sttx_core.experts import compile_coding
from sttx_train.coding import Archive, CompressConfig, Member, compress, method_of
from sttx_train.coding.extract import ToStream

RIGHT = "all bytes right"
SETTINGS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "ATEN_CPU_CAPABILITY=avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATEN_CPU_CAPABILITY=avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "NUMBA_CPU_NAME=generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


def wrong_in(folder: Path) -> list[str]:
    """Decode the archives of a folder here; return the names of those that do not hold the file ``in``."""
    wrong, content = [], (folder / "in").read_bytes()
    for path in sorted(folder.glob("*.sttx")):
        again = io.BytesIO()
        with Archive(path) as archive:
            archive.read(archive.entries, lambda _, again=again: ToStream(again))
        if again.getvalue() != content:
            wrong.append(path.stem)
    return wrong


def said_by_another(folder: Path, settings: dict[str, str], caches: Path) -> str:
    """Decode in another process; return what it says, or how it failed."""
    if "NUMBA_CPU_NAME" in settings:
        settings = settings | {"NUMBA_CACHE_DIR": str(caches / "numba"), "XDG_CACHE_HOME": str(caches)}
    command = [sys.executable, str(Path(__file__).resolve()), "--check", str(folder)]
    done = subprocess.run(command, capture_output=True, env=os.environ | settings)
    return (
        (done.stdout if done.returncode == 0 else done.stderr[-1000:])
        .decode(errors="backslashreplace")
        .strip()
    )


def main() -> int:
    """Compress here, and decompress under every setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="decode the archives of a folder here")
    parser.add_argument("--most-bytes", type=int, default=40_000)
    arguments = parser.parse_args()
    if arguments.check:
        print("; ".join(wrong_in(arguments.check)) or RIGHT)
        return 0
    content = arguments.file.read_bytes()[: arguments.most_bytes]
    wrong = 0
    compile_coding()
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as caches:
        folder = Path(place)
        (folder / "in").write_bytes(content)
        for level in ("fast", "network"):
            for coder in ("ac", "rans"):
                members = [Member(name="in", path=folder / "in")]
                out = folder / f"{level}-{coder}.sttx"
                compress(members, out, CompressConfig(coder=coder), method=method_of(level))
        for name, settings in SETTINGS.items():
            said = said_by_another(folder, settings, Path(caches))
            wrong += said != RIGHT
            print(f"{name}: {said}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
