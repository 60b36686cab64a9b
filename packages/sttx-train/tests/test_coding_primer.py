"""The text that experts have read before the first file: it saves bytes, and an archive names it."""

import io
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from sttx_core.errors import DataError, SttxError, UsageError
from sttx_core.experts import ExpertsConfig
from sttx_train.coding import Archive, CompressConfig, Member, Method, compress, method_of, primer
from sttx_train.coding.container import BLOCK, read_header, read_payload, walk
from sttx_train.coding.header import vocabulary

TEXT = (
    b'User: Fix the test.\n\nTool call: Read {"file_path":"/home/ann/a.py"}\n\n'
    b"Tool result: Read\n     1\timport re\n     2\t\n     3\tdef main() -> None:\n\n"
)
SMALL = ExpertsConfig(slot_bits=18, history_bits=16, index_bits=14)


def archive_of(folder, method, files, **config):
    members = []
    for number, content in enumerate(files):
        (folder / f"{number}").write_bytes(content)
        members.append(Member(name=f"{number}", path=folder / f"{number}"))
    out = folder / f"{method}-{len(config)}.sttx"
    compress(members, out, CompressConfig(**config), method=method)
    return out


class Kept:
    def __init__(self, kept, entry):
        self.write, self.keep, self.drop = kept.setdefault(entry.path, bytearray()).extend, int, int


def read(path):
    kept: dict[str, bytearray] = {}
    with Archive(path) as archive:
        damage = archive.read(archive.entries, lambda entry: Kept(kept, entry))
    assert not damage.lost and not damage.segments
    return [bytes(content) for content in kept.values()]


def payloads(path):
    with path.open("rb") as file:
        read_header(file)
        records = list(walk(file, file.tell()))
        return [read_payload(file, position, head) for position, head in records if head.kind == BLOCK]


def test_level_fast_is_primed_and_small_sessions_are_smaller(tmp_path):
    primed = replace(method_of("fast"), experts=SMALL)
    plain = replace(primed, primed=False)
    assert str(method_of("fast")) == "experts[primed]"
    paths = [archive_of(tmp_path, method, [TEXT]) for method in (primed, plain)]
    assert [read(path) for path in paths] == [[TEXT], [TEXT]]
    sizes = [sum(map(len, payloads(path))) for path in paths]
    assert sizes[0] < 0.9 * sizes[1]


def test_the_primer_knows_lines_as_claude_code_writes_them(tmp_path):
    lines = Path(primer.__file__).with_name("primer.jsonl").read_bytes().split(b"\n")
    session = b"\n".join(line.replace(b"calm-green-river", b"odd-blue-hill") for line in lines[2:40])
    primed = replace(method_of("fast"), experts=SMALL)
    paths = [archive_of(tmp_path, method, [session]) for method in (primed, replace(primed, primed=False))]
    assert [read(path) for path in paths] == [[session], [session]]
    sizes = [sum(map(len, payloads(path))) for path in paths]
    assert sizes[0] < 0.5 * sizes[1]


def test_each_segment_starts_with_the_primer_and_nothing_else(tmp_path):
    method = replace(method_of("fast"), experts=SMALL)
    sizes = vocabulary().vocab_size, SMALL
    tokens = primer.primed(vocabulary(), *sizes, with_network=False).tokens_read
    kept = primer._last[0]
    path = archive_of(tmp_path, method, [TEXT, b"between", TEXT], segment_mb=0)
    assert read(path) == [TEXT, b"between", TEXT]
    assert primer._last[0] is kept, "it is read for each segment"
    again = primer.primed(vocabulary(), *sizes, with_network=False)
    assert again.tokens_read == tokens > 10_000, "what is kept has read a file"
    first, between, last = payloads(path)
    assert first == last != between


def test_another_primer_is_refused_before_decoding(tmp_path, monkeypatch):
    path = archive_of(tmp_path, replace(method_of("fast"), experts=SMALL), [TEXT])
    monkeypatch.setattr("sttx_train.coding.header.primer_sha256", lambda _: "ab" * 32)
    with Archive(path) as archive, pytest.raises(DataError, match="primer is"):
        archive.read(archive.entries, lambda _: pytest.fail("decoded"))


def session_lines():
    lines = Path(primer.__file__).with_name("primer.jsonl").read_bytes().split(b"\n")
    return b"\n".join(line.replace(b"calm-green-river", b"odd-blue-hill") for line in lines[2:6])


def test_experts_beside_a_network_know_lines_too(tmp_path):
    session = session_lines()
    level = replace(method_of("network"), experts=SMALL)
    paths = [archive_of(tmp_path, replace(level, primed=primed), [session]) for primed in (True, False)]
    assert [read(path) for path in paths] == [[session], [session]]
    sizes = [sum(map(len, payloads(path))) for path in paths]
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize(
    ("files", "method"),
    [
        ([session_lines(), TEXT], "mini+experts[primed]"),
        ([TEXT, session_lines()], "mini+experts"),
        ([b"", session_lines()], "mini+experts[primed]"),
        ([b"", b""], "mini+experts"),
    ],
)
def test_beside_a_network_the_primer_is_read_if_the_first_file_is_json_lines(tmp_path, files, method):
    level = replace(method_of("network"), experts=SMALL)
    path = archive_of(tmp_path, level, files)
    with Archive(path) as archive:
        assert archive.header["method"] == method
    assert sorted(read(path)) == sorted(files)
    out = io.BytesIO()
    members = [Member(name="stdin", path=None), Member(name="1", path=tmp_path / "1")]
    compress(members, out, method=level, stdin=io.BytesIO(files[0]))
    (tmp_path / "piped").write_bytes(out.getvalue())
    with Archive(tmp_path / "piped") as archive:
        assert archive.header["method"] == method
    assert sorted(read(tmp_path / "piped")) == sorted(files)
    # What is added later does not decide again.
    added = [Member(name=name, path=tmp_path / name) for name in "10"]
    assert compress(added, path, method=level, resume=True).method == method


def test_what_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_core.experts.experts.new_memory", Mock(side_effect=MemoryError))
    with pytest.raises(SttxError, match="not enough memory for the tables of this method, over 134 MB"):
        archive_of(tmp_path, method_of(method="experts"), [TEXT])


def test_a_network_alone_is_not_primed():
    with pytest.raises(UsageError, match="reads no primer"):
        Method(network="mini", with_experts=False, primed=True)
