"""Measures how fast the World vocabulary encodes: our tokenizer and the compiled `pyrwkv-tokenizer`.

    python benchmarks/tokenizer.py [FILE ...]

Without files it encodes Python's standard library. Numbers are for one core, best of three, and only
comparable within one run. Target: 2 MB/s or more.
"""

import importlib.util
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sttx_core.tokenizers import TrieTokenizer

SIZE = 4_000_000
Result = TypeVar("Result")


def main(paths: list[str]) -> None:
    """Print the speed of each tokenizer."""
    text = sample(paths)
    size = len(text.encode())
    print(f"text: {size / 1e6:.1f} MB")
    package = importlib.util.find_spec("rwkv")
    if package is None or package.origin is None:
        sys.exit(
            "the World vocabulary comes with the development dependency rwkv, which is not installed: "
            "run `uv sync`"
        )
    vocabulary = Path(package.origin).parent / "rwkv_vocab_v20230424.txt"
    ours, load = timed(lambda: TrieTokenizer(vocabulary), 1)
    _, compiling = timed(lambda: ours.encode("a"), 1)
    ids, seconds = timed(lambda: ours.encode(text))
    print(f"sttx TrieTokenizer: {size / seconds / 1e6:.1f} MB/s, {size / len(ids):.2f} bytes per token")
    print(f"  once: {load:.2f} s to read the file, {compiling:.2f} s to compile at the first encoding")
    back, seconds = timed(lambda: ours.decode(ids))
    print(f"  decode: {size / seconds / 1e6:.1f} MB/s, {'exact' if back == text else 'WRONG'}")
    if importlib.util.find_spec("pyrwkv_tokenizer") is None:
        return
    from pyrwkv_tokenizer import RWKVTokenizer  # no types

    theirs = RWKVTokenizer()
    their_ids, seconds = timed(lambda: theirs.encode(text))
    print(
        f"pyrwkv_tokenizer: {size / seconds / 1e6:.1f} MB/s, ids {'equal' if their_ids == ids else 'DIFFER'}"
    )


def sample(paths: list[str]) -> str:
    """Return the joined text of the files, up to 4 million characters."""
    files = [Path(path) for path in paths] or sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    parts, size = [], 0
    for file in files:
        parts.append(file.read_text(encoding="utf-8", errors="replace"))
        size += len(parts[-1])
        if size >= SIZE:
            break
    return "".join(parts)[:SIZE]


def timed(run: Callable[[], Result], times: int = 3) -> tuple[Result, float]:
    """Return the result and the seconds of the fastest run."""
    seconds = []
    while True:
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == times:
            return result, min(seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
