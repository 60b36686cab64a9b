"""Compares archives of sttx with other compressors on sessions: raw lines and rendered text apart.

    python benchmarks/compress.py FOLDER [--most-bytes N] [--levels fast network best] [--only-rendered]
                                  [--rwkvzip BYTES]

Each session is compressed alone, and all in one file in the order of their names. In sequence, a session
counts what it adds to those before it; the first is left out. Sizes are in bits per byte of the input and
include everything that is written. Rates are per second of processor time, comparable within one run only.
Other programs take part if they are installed. Every archive of sttx is decompressed again and compared.

With --rwkvzip, its network of the same width (256, and 6 layers) codes the first BYTES of the first session,
random as it starts: frozen, and learning every byte. It is `infotheory_rs`, run by the Python that the
environment variable RWKVZIP_PYTHON names (a command; its wheel may need a newer C library than the system's).
"""

import argparse
import io
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sttx_ccsniff import open_source
from sttx_core.experts import Experts, compile_coding
from sttx_core.render import render
from sttx_train.coding import Archive, CompressConfig, Member, compress, method_of
from sttx_train.coding.extract import ToStream
from sttx_train.coding.method import STREAMS
from sttx_train.coding.vector import computes_as_expected

OTHERS = {
    "zpaq -m5": ["zpaq", "a", "OUT.zpaq", "IN", "-m5", "-t1"],
    "xz -9e": ["xz", "-9e", "-T1", "-k", "-c", "IN"],
    "zstd --ultra -22 --long=27": ["zstd", "--ultra", "-22", "--long=27", "-q", "-c", "IN"],
    "brotli -q 11": ["brotli", "-q", "11", "--lgwin=24", "-c", "IN"],
}
PART_BYTES = 1 << 14
"""Least bytes of what is coded side by side."""

WITHOUT_LIMIT = CompressConfig(segment_mb=1e6)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One compression: bytes written, seconds of processor time, and MB of tables; 0 if unknown."""

    size: int
    seconds: float
    memory: float = 0.0
    decoding: float = 0.0


RWKVZIP = (
    "cfg:hidden=256,layers=6,intermediate=1024,decay_rank=32,a_rank=32,v_rank=32,g_rank=64,seed=7,train="
)
RWKVZIP_WAYS = {"frozen": "none", "learning every byte": "adam,lr=0.001,stride=1"}
RWKVZIP_PROGRAM = """
import json, sys, time
import infotheory_rs as info
data = open(sys.argv[1], "rb").read()
def backend():
    return info.CompressionBackend.rate_ac(info.RateBackend.rwkv7(sys.argv[2]), "framed")
coder = backend()
start = time.process_time()
packed = info.compress_bytes_backend(data, compression_backend=coder)
middle = time.process_time()
coder = backend()
ready = time.process_time()
assert info.decompress_bytes_backend(packed, compression_backend=coder) == data
end = time.process_time()
print(json.dumps([len(packed), middle - start, end - ready]))
"""
"""What the other Python runs: size, and seconds of processor time to encode and to decode."""

Compress = Callable[[Path, Mapping[str, bytes]], Run]


def ours(level: str, streams: int | None = None) -> Compress:
    """Return what compresses by a level of sttx, in this process, decompresses again, and compares."""
    method = method_of(level, streams=streams)

    def compressed(folder: Path, contents: Mapping[str, bytes]) -> Run:
        members = []
        for number, (name, content) in enumerate(contents.items()):
            (folder / f"{number}").write_bytes(content)
            members.append(Member(name=name, path=folder / f"{number}"))
        out = folder / "a.sttx"
        start = time.process_time()
        compress(members, out, WITHOUT_LIMIT, method=method)
        middle = time.process_time()
        again = io.BytesIO()
        with Archive(out) as archive:
            archive.read(archive.entries, lambda _: ToStream(again))
        end = time.process_time()
        assert again.getvalue() == b"".join(contents.values()), "the archive holds other bytes"
        tokens = [bytes([number % 256]) for number in range(4096)]
        memory = Experts(tokens, method.experts).nbytes / 1e6
        return Run(size=out.stat().st_size, seconds=middle - start, memory=memory, decoding=end - middle)

    return compressed


def other(command: Sequence[str]) -> Compress:
    """Return what compresses by another program, all in one file."""

    def compressed(folder: Path, contents: Mapping[str, bytes]) -> Run:
        source, out, archive = folder / "in", folder / "out", folder / "out.zpaq"
        source.write_bytes(b"".join(contents.values()))
        names = {"IN": str(source), "OUT.zpaq": str(archive)}
        with out.open("wb") as file:
            started = subprocess.Popen(
                [names.get(word, word) for word in command], stdout=file, stderr=subprocess.DEVNULL
            )
            _, status, used = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            raise SystemExit(f"{command[0]} failed")
        written = archive if archive.exists() else out
        return Run(size=written.stat().st_size, seconds=used.ru_utime + used.ru_stime)

    return compressed


def in_folder(compressed: Compress, contents: Mapping[str, bytes]) -> Run:
    """Compress in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        return compressed(Path(folder), contents)


def compare(form: str, contents: Mapping[str, bytes], levels: Sequence[str], one_stream: bool) -> None:
    """Print a row for each compressor."""
    total = sum(map(len, contents.values()))
    first = next(iter(contents))
    print(f"\n{form}: {len(contents)} sessions, {total:,} bytes")
    print("| compressor | each alone | one file | in sequence | kB/s | decoding | MB of tables |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = {f"sttx, {level}": ours(level) for level in levels}
    if one_stream:
        rows["sttx, network, one stream"] = ours("network", 1)
    rows |= {name: other(words) for name, words in OTHERS.items() if shutil.which(words[0])}
    for name, compressed in rows.items():
        alone = {key: in_folder(compressed, {key: value}) for key, value in contents.items()}
        together = in_folder(compressed, contents)
        rest = total - len(contents[first])
        added = 8 * (together.size - alone[first].size) / rest if rest else float("nan")
        memory = f"{together.memory:.0f}" if together.memory else ""
        decoding = f"{total / together.decoding / 1e3:.0f}" if together.decoding else ""
        print(
            f"| {name} | {8 * sum(run.size for run in alone.values()) / total:.3f} "
            f"| {8 * together.size / total:.3f} | {added:.3f} | {total / together.seconds / 1e3:.0f} "
            f"| {decoding} | {memory} |",
            flush=True,
        )


def compare_rwkvzip(session: bytes, most: int, python: str) -> None:
    """Print rows for rwkvzip and for level network, on the same bytes and one core.

    Level network also codes so much that it has all of its streams, because its rate depends on them.

    Args:
        session: its text.
        most: bytes of it.
        python: a command that runs a Python which imports `infotheory_rs`.
    """
    content = session[:most]
    print(f"\nrwkvzip, width 256: {len(content):,} bytes")
    print("| compressor | bits per byte | B/s | decoding |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "in")).write_bytes(content)
        for way, train in RWKVZIP_WAYS.items():
            words = [*shlex.split(python), "-c", RWKVZIP_PROGRAM, str(path), RWKVZIP + train]
            alone = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
            done = subprocess.run(words, check=True, capture_output=True, env=alone)
            print_rates(f"rwkvzip, {way}", len(content), *json.loads(done.stdout))
    for part in (content, session[: STREAMS * PART_BYTES]):
        run = in_folder(ours("network"), {"session": part})
        print_rates(f"sttx, network, {len(part):,} bytes", len(part), run.size, run.seconds, run.decoding)


def print_rates(name: str, total: int, size: int, seconds: float, decoding: float) -> None:
    """Print a row."""
    print(
        f"| {name} | {8 * size / total:.3f} | {total / seconds:,.0f} | {total / decoding:,.0f} |", flush=True
    )


def rendered(path: Path) -> bytes:
    """Return a session as the text that models read."""
    with open_source([str(path)], follow=False, redact=False) as source:
        return "".join(map(render, source)).encode()


def chosen(contents: Mapping[str, bytes], most: int) -> dict[str, bytes]:
    """Return the files that fit, in the order of their names."""
    result: dict[str, bytes] = {}
    for name, content in sorted(contents.items()):
        if content and len(content) <= most:
            result[name] = content
            most -= len(content)
    return result


def main() -> None:
    """Compare on the sessions of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most-bytes", type=int, default=4_000_000, help="of each form")
    parser.add_argument("--levels", nargs="+", default=["fast"], choices=["fast", "network", "best"])
    parser.add_argument("--one-stream", action="store_true", help="also level network, nothing side by side")
    parser.add_argument("--rwkvzip", type=int, metavar="BYTES", help="compare with rwkvzip, and nothing else")
    parser.add_argument("--only-rendered", action="store_true", help="leave out raw lines")
    arguments = parser.parse_args()
    compile_coding()
    if arguments.levels != ["fast"] or arguments.one_stream or arguments.rwkvzip:
        computes_as_expected()  # compiles the network
    paths = sorted(arguments.folder.rglob("*.jsonl"))
    if arguments.rwkvzip:
        if not (python := os.environ.get("RWKVZIP_PYTHON")):
            raise SystemExit("set RWKVZIP_PYTHON to a command that runs a Python with infotheory-rs")
        compare_rwkvzip(rendered(paths[0]), arguments.rwkvzip, python)
        return
    for form, read in (("rendered text", rendered), ("raw lines", Path.read_bytes)):
        if form == "rendered text" or not arguments.only_rendered:
            contents = chosen({path.name: read(path) for path in paths}, arguments.most_bytes)
            compare(form, contents, arguments.levels, arguments.one_stream)


if __name__ == "__main__":
    main()
