"""Checks that an archive decodes under other settings: threads, vector instructions of PyTorch, and of numba.

    python benchmarks/settings.py FILE [--most-bytes N]

Compresses the first bytes of FILE by levels fast and network, with both coders, and decompresses each archive
by another process for each setting. Exits with 1 if any byte differs. A generic processor is compiled for
from nothing, which takes minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sttx_core.experts import compile_coding
from sttx_train.coding import CompressConfig, Member, compress, method_of

SETTINGS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "ATEN_CPU_CAPABILITY=avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATEN_CPU_CAPABILITY=avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "NUMBA_CPU_NAME=generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
}


def comes_back(archive: Path, content: bytes, settings: dict[str, str], folder: Path) -> bool:
    """Decompress in another process; return whether all bytes are right."""
    out = folder / "again"
    command = [sys.executable, "-m", "sttx_cli", "decompress", str(archive), "-o", str(out)]
    if "NUMBA_CPU_NAME" in settings:
        settings = settings | {
            "NUMBA_CACHE_DIR": str(folder / "numba"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
    done = subprocess.run(command, capture_output=True, env=os.environ | settings)
    right = done.returncode == 0 and out.read_bytes() == content
    if not right:
        print(done.stderr.decode(errors="backslashreplace")[-1000:])
    out.unlink(missing_ok=True)
    return right


def main() -> int:
    """Compress here, and decompress under every setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--most-bytes", type=int, default=40_000)
    arguments = parser.parse_args()
    content = arguments.file.read_bytes()[: arguments.most_bytes]
    wrong = 0
    compile_coding()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "in").write_bytes(content)
        archives = {}
        for level in ("fast", "network"):
            for coder in ("ac", "rans"):
                out = folder / f"{level}-{coder}.sttx"
                members = [Member(name="in", path=folder / "in")]
                compress(members, out, CompressConfig(coder=coder), method=method_of(level))
                archives[f"{level}, {coder}"] = out
        for name, settings in SETTINGS.items():
            start = time.monotonic()
            bad = [key for key, path in archives.items() if not comes_back(path, content, settings, folder)]
            wrong += len(bad)
            said = f"differs: {'; '.join(bad)}" if bad else f"{len(archives)} archives, all bytes right"
            print(f"{name}: {said} ({time.monotonic() - start:.0f} s)", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
