"""Archives: every byte comes back or is missed with an error, whatever happened to the archive."""

import hashlib
import io
import json
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import DataError, UsageError
from sttx_core.experts import Experts, ExpertsConfig
from sttx_train.coding import Archive, CompressConfig, Member, codec, compress, container, method
from sttx_train.coding.extract import Nowhere, ToStream, extract
from sttx_train.coding.members import members_of
from sttx_train.coding.packed import MOST_TIMES, pack, unpack

SESSION = b"".join(
    json.dumps({"type": "user", "uuid": f"u-{turn}", "text": f"Run test {turn} ✓ again"}).encode() + b"\n"
    for turn in range(40)
)
FILES = {
    "a/one": SESSION[:2000],
    "a/two": SESSION[:900] + b"\xff\xfe\x00" + SESSION[900:1500],
    "b/empty": b"",
    "b/three": b"x",
    "c": bytes(range(256)) * 2,
}
EACH_APART = CompressConfig(segment_mb=0)
quick = settings(max_examples=12, deadline=None, derandomize=True)


def write(folder, files):
    """Write files; return them as members, sorted by name."""
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [Member(name=name, path=Path(folder, name)) for name in sorted(files)]


def archive_of(folder, files, config=None, name="x.sttx"):
    out = Path(folder, name)
    compress(write(Path(folder, "in"), files), out, config)
    return out


class Kept(io.BytesIO):
    """Remembers the content of a file once it is kept."""

    def __init__(self, kept, entry):
        super().__init__()
        self._kept, self._path = kept, entry.path

    def keep(self):
        self._kept[self._path] = self.getvalue()

    def drop(self):
        pass


def contents(path, names=()):
    """Return the content of each file that can be read, and what cannot."""
    kept = {}
    with Archive(path) as archive:
        damage = archive.read(archive.named(names), lambda entry: Kept(kept, entry))
    return kept, damage


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return archive_of(tmp_path_factory.mktemp("archive"), FILES, EACH_APART)


@pytest.mark.parametrize("config", [None, CompressConfig(coder="rans"), EACH_APART], ids=repr)
def test_files_come_back(tmp_path, config):
    kept, damage = contents(archive_of(tmp_path, FILES, config))
    assert kept == FILES
    assert not damage.segments and not damage.lost


@quick
@given(
    content=st.binary(max_size=600) | st.text(max_size=300).map(str.encode),
    coder=st.sampled_from(["ac", "rans"]),
)
def test_any_bytes_come_back(tmp_path_factory, content, coder):
    folder = tmp_path_factory.mktemp("any")
    assert contents(archive_of(folder, {"f": content}, CompressConfig(coder=coder)))[0] == {"f": content}


@pytest.mark.parametrize("cut", range(1, 4))
def test_utf8_that_is_cut_anywhere_comes_back(tmp_path, cut):
    content = "é✓😀".encode() * 3
    assert contents(archive_of(tmp_path, {"f": content[cut:-cut]}))[0] == {"f": content[cut:-cut]}


def test_a_line_longer_than_blocks_and_segments_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_train.coding.codec.BLOCK_BYTES", 500)
    config = CompressConfig(segment_mb=0.001)
    out = archive_of(tmp_path, {"a": b"ab" * 1600, "b": b"c" * 100}, config)
    with Archive(out) as archive:
        assert [entry.segments for entry in archive.entries] == [(0, 3), (3, 3)]
    assert contents(out)[0] == {"a": b"ab" * 1600, "b": b"c" * 100}


def test_the_same_archive_is_written_twice_and_by_another_process(tmp_path):
    members = write(tmp_path / "in", FILES)
    outs = [tmp_path / f"{number}.sttx" for number in range(3)]
    for out in outs[:2]:
        compress(members, out)
    code = (
        "import sys; from pathlib import Path; from sttx_train.coding import Member, compress; "
        "compress([Member(name=n, path=Path(sys.argv[1], n)) for n in sys.argv[3:]], Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "in", outs[2], *sorted(FILES)], check=True)
    first, *others = [out.read_bytes() for out in outs]
    assert others == [first, first]


def test_payloads_are_the_same_on_every_machine():
    """If this fails, archives that were written before cannot be read: see EXPERTS_VERSION."""
    coder = codec.new_codec(method.Method(), "ac")
    coder.start_segment()
    payloads = [coder.encode([block], print)[0][1] for block in ((0, SESSION), (1, SESSION[:700]))]
    assert len(payloads[1]) < 30 < len(payloads[0]) < len(SESSION) / 8
    assert hashlib.sha256(b"".join(payloads)).hexdigest()[:16] == "91f8d27d2e84db77"


def test_one_file_is_read_without_other_segments(archive):
    done = []
    with Archive(archive) as opened:
        [entry] = opened.named(["c"])
        opened.read([entry], lambda _: Nowhere(), done.append)
        assert [found.path for found in opened.named(["a"])] == ["a/one", "a/two"]
        with pytest.raises(UsageError, match="no file named 'd'"):
            opened.named(["d"])
    assert sum(done) == len(FILES["c"])


@quick
@given(data=st.data())
def test_damage_gives_right_bytes_or_an_error(archive, tmp_path_factory, data):
    whole = archive.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zeros"]))
    changed = {
        "flip": whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
        "cut": whole[:at],
        "insert": whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:],
        "zeros": whole[:at] + bytes(min(40, len(whole) - at)) + whole[at + 40 :],
    }[kind]
    path = tmp_path_factory.mktemp("damaged") / "x.sttx"
    path.write_bytes(changed)
    try:
        kept, damage = contents(path)
    except DataError:
        return
    assert all(FILES[name] == content for name, content in kept.items())
    with Archive(path) as opened:
        missed = set(FILES) - set(kept) - set(damage.lost)
        assert not missed or not opened.is_finished


def test_a_damaged_segment_loses_only_itself_and_a_lost_index_nothing(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    with Archive(archive) as opened:
        place = opened.segments[1]
    data[place + container.HEAD_BYTES + 5] ^= 1
    path = tmp_path / "x.sttx"
    path.write_bytes(data)
    kept, damage = contents(path)
    assert damage.segments == (1,) and damage.lost == ("a/two",)
    assert kept == {name: content for name, content in FILES.items() if name != "a/two"}
    path.write_bytes(archive.read_bytes()[:-20])
    with Archive(path) as opened:
        assert not opened.is_finished
    assert contents(path)[0] == FILES


def changed_header(archive, path, **changes):
    with archive.open("rb") as file:
        header = container.read_header(file)
        rest = file.read()
    path.write_bytes(container.write_header({**header, **changes}) + rest)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "mini+experts"}, "which network it needs"),
        ({"method": "mini;policy:schedule=0..:train"}, "which network it needs"),
        ({"method": "mini;policy:schedule=0..1%:train;1%..:infer"}, "method is 'mini;"),
        ({"method": "cfg:64,64,1,adam,1,0.1"}, "method is 'cfg:"),
        ({"method": "cfg:hidden=64,layers=1"}, "method is 'cfg:"),
        ({"method": "mini*experts"}, "method is 'mini"),
        ({"profile": "native"}, "profile is 'native'"),
        ({"network": {"model": "ab"}}, "has no network"),
        ({"vocabulary": "00" * 32}, "another vocabulary"),
        ({"experts_version": 2}, "experts version is 2"),
        ({"coder": "huffman"}, "coder is 'huffman'"),
        ({"experts": {"slot_bits": 25}}, "larger than any"),
        ({"experts": 5}, "lacks the sizes"),
        ({"experts": {**asdict(ExpertsConfig()), "limit": 255.0}}, "lacks the sizes"),
        ({"primer": "00" * 32}, "primer is '0000"),
        ({"method": "experts[primed]"}, "primer is None"),
        ({"more": 1}, "lacks what says"),
    ],
)
def test_what_this_installation_cannot_decode_is_refused_before_decoding(archive, tmp_path, changes, said):
    path = changed_header(archive, tmp_path / "x.sttx", **changes)
    with Archive(path) as opened, pytest.raises(DataError, match=said):
        opened.read(opened.entries, lambda _: pytest.fail("decoded"))


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"", "empty"),
        (b"7kSt", "zpaq wrote"),
        (b"\x1f\x8b", "gzip"),
        (b"hello", "not an"),
        (struct.pack("<IBBQI", 0x5A505447, 2, 0, 9, 1), "rwkvzip"),
    ],
)
def test_other_files_are_refused(tmp_path, start, said):
    path = tmp_path / "x"
    path.write_bytes(start)
    with pytest.raises(DataError, match=said):
        Archive(path)


@pytest.mark.parametrize(("version", "said"), [(b"\x03", "an earlier"), (b"\x05", "a later")])
def test_other_versions_are_refused(archive, tmp_path, version, said):
    path = tmp_path / "x.sttx"
    data = archive.read_bytes()
    path.write_bytes(data[:8] + version + data[9:])
    with pytest.raises(DataError, match=f"{said} sttx"):
        Archive(path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", "a/./b", "", "a\0b"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    value = {
        "path": name,
        "size": 0,
        "sha256": "",
        "mode": 0,
        "modified": 0,
        "number": 0,
        "form": "bytes",
        "coded": 0,
        "segments": [-1, -1],
    }
    with pytest.raises(DataError, match="outside"):
        container.read_entry(value)
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot have the name"):
        compress([Member(name=name, path=tmp_path / "f")], tmp_path / "x.sttx")


@pytest.mark.parametrize("spans", [[0, 10**15], [3, 1], [-1, -1], [0], [0.5, 1], None])
def test_impossible_segments_are_refused(tmp_path, spans):
    entry = {"path": "f", "size": 9, "sha256": "", "mode": 0, "modified": 0, "number": 0, "segments": spans}
    entry |= {"form": "bytes", "coded": 9}
    header = container.write_header(codec.new_codec(method.Method(), "ac").header)
    path = tmp_path / "x.sttx"
    path.write_bytes(header + container.write_record(container.FILE, json.dumps(entry).encode()))
    with pytest.raises(DataError, match="entry in the archive is damaged"):
        Archive(path)


@pytest.mark.parametrize("modified", [float("nan"), float("inf"), -float("inf"), "now"])
def test_impossible_times_are_refused(modified):
    value = {"path": "f", "size": 0, "sha256": "", "mode": 0, "number": 0, "segments": [-1, -1]}
    value |= {"form": "bytes", "coded": 0}
    assert container.read_entry({**value, "modified": 10**12}).modified == 10**12
    with pytest.raises(DataError, match="entry in the archive is damaged"):
        container.read_entry({**value, "modified": modified})


def test_a_file_that_is_coded_as_it_is_has_as_many_bytes_as_its_text():
    value = {"path": "f", "sha256": "", "mode": 0, "modified": 0, "number": 0, "segments": [0, 0], "coded": 9}
    assert container.read_entry({**value, "form": "lines", "size": 10**12}).size == 10**12
    assert container.read_entry({**value, "form": "bytes", "size": 9}).size == 9
    with pytest.raises(DataError, match="entry in the archive is damaged"):
        container.read_entry({**value, "form": "bytes", "size": 10})


def index_of(**value):
    """Return an index that says so, and the end of the archive, for an archive with nothing else."""
    position = len(container.write_header({}))
    payload = pack({"files": [], "segments": [], **value}, bounded=False)
    return container.write_record(container.INDEX, payload) + container._END.pack(position, b"sttx-end")


@pytest.mark.parametrize(
    ("start", "rest", "said"),
    [
        ([1], b"", "header is damaged"),
        ({"coder": float("inf")}, b"", "header is damaged"),
        ({}, index_of(segments=[[0, -5]]), "index is damaged"),
        ({}, index_of(segments=[[0, 1e400]]), "index is damaged"),
        ({}, index_of(segments=[["0", "9"]]), "index is damaged"),
        ({}, index_of(segments=7), "index is damaged"),
    ],
    ids=["list", "header", "negative", "infinite", "text", "number"],
)
def test_impossible_headers_and_indexes_are_refused(tmp_path, start, rest, said):
    path = tmp_path / "x.sttx"
    path.write_bytes(container.write_header(start) + rest)
    with pytest.raises(DataError, match=said):
        Archive(path)


def test_an_index_is_not_expanded_beyond_what_the_archive_can_hold(tmp_path):
    path = tmp_path / "x.sttx"
    path.write_bytes(container.write_header({}) + index_of(files=[[]] * 1_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="index is damaged"):
        Archive(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["a", "a" * 10_000, "s-7f3a.jsonl"])
def test_entries_are_small_and_bound_the_index(tmp_path, name):
    entry = container.Entry(
        path=name, size=9, sha256="7f" * 32, mode=420, modified=1.5, number=3, segments=(0, 1), coded=9
    )
    payload, plain = container.write_entry(entry), json.dumps(asdict(entry)).encode()
    assert len(payload) < len(plain) <= MOST_TIMES * (len(payload) + container.HEAD_BYTES)
    assert container.read_file(payload) == entry
    path = tmp_path / "x.sttx"
    path.write_bytes(b"".join(container.write_record(container.FILE, payload) for _ in range(90)))
    end = container.write_index([entry] * 90, {0: 0}, path.stat().st_size)
    with path.open("ab+") as file:
        file.write(end)
        found = container.read_index(file, file.tell())
    assert found == ([entry] * 90, {0: 0})
    for damaged in (payload[:-1], payload + b"x", pack({"a": "b" * 10_000}, bounded=False)):
        with pytest.raises(DataError, match="entry in the archive is damaged"):
            container.read_file(damaged)
    with pytest.raises(ValueError, match="larger than allowed"):
        unpack(pack({"a": "b" * 100}, bounded=False), 100)


def test_a_batch_where_there_is_no_network_is_damage(archive, tmp_path):
    data = bytearray(archive.read_bytes())
    with Archive(archive) as opened:
        place = opened.segments[0]
    with archive.open("rb") as file:
        head = container.head_at(file, place)
        payload = container.read_payload(file, place, head)
    forged = container.write_record(
        container.BLOCK, payload, FILES["a/one"], segment=0, file=0, more=1, tokens=head.tokens
    )
    path = tmp_path / "x.sttx"
    path.write_bytes(data[:place] + forged + data[place + len(forged) :])
    kept, damage = contents(path)
    assert damage.lost == ("a/one",) and len(kept) == len(FILES) - 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 1.0])
def test_an_archive_that_was_cut_is_gone_on_with(tmp_path, share):
    members = write(tmp_path / "in", FILES)
    out = archive_of(tmp_path, FILES, EACH_APART)
    whole = out.read_bytes()
    out.write_bytes(whole[: int(len(whole) * share)])
    with Archive(out) as before:
        known = before.entries
    done = compress(members, out, EACH_APART, resume=True)
    assert done.files == len(FILES) and done.bytes_out == out.stat().st_size
    with Archive(out) as after:
        assert after.is_finished and after.entries[: len(known)] == known
    assert contents(out)[0] == FILES
    assert share < 1 or out.read_bytes() == whole


def test_a_finished_archive_takes_more_files_but_no_changed_ones(tmp_path):
    out = archive_of(tmp_path, FILES)
    more = {**FILES, "d": b"more " * 50}
    compress(write(tmp_path / "in", more), out, resume=True)
    assert contents(out)[0] == more
    with pytest.raises(UsageError, match="changed since"):
        compress(write(tmp_path / "in", {"c": b"other"}), out, resume=True)


def test_an_archive_is_never_overwritten_and_names_are_unique(tmp_path):
    out = archive_of(tmp_path, {"f": b"x"})
    [member] = write(tmp_path / "in", {"f": b"x"})
    with pytest.raises(UsageError, match="exists"):
        compress([member], out)
    with pytest.raises(UsageError, match="no archive"):
        compress([member], tmp_path / "y.sttx", resume=True)
    with pytest.raises(UsageError, match="two files"):
        compress([member, member], tmp_path / "z.sttx")


def test_files_of_one_segment_help_each_other(tmp_path):
    files = {"a": SESSION, "b": SESSION}
    together = archive_of(tmp_path, files, name="together.sttx").stat().st_size
    apart = archive_of(tmp_path, files, EACH_APART, name="apart.sttx").stat().st_size
    assert together < apart - 100


def test_streams_are_compressed_and_written(tmp_path):
    out = io.BytesIO()
    compress([Member(name="stdin", path=None)], out, stdin=io.BytesIO(SESSION))
    path = tmp_path / "x.sttx"
    path.write_bytes(out.getvalue())
    again = io.BytesIO()
    with Archive(path) as opened:
        opened.read(opened.entries, lambda _: ToStream(again))
    assert again.getvalue() == SESSION


def test_extracting_overwrites_nothing_and_keeps_modes_and_times(tmp_path):
    [member] = write(tmp_path / "in", {"f": SESSION})
    member.path.chmod(0o640)
    compress([member], tmp_path / "x.sttx")
    with Archive(tmp_path / "x.sttx") as opened:
        extract(opened, opened.entries, tmp_path / "out", one_file=False)
        found = (tmp_path / "out" / "f").stat()
        assert found.st_mode & 0o777 == 0o640
        assert found.st_mtime == pytest.approx(member.path.stat().st_mtime, abs=1e-3)
        with pytest.raises(UsageError, match="exists"):
            extract(opened, opened.entries, tmp_path / "out", one_file=False)


def test_a_damaged_file_leaves_nothing_behind(tmp_path):
    out = archive_of(tmp_path, {"f": SESSION})
    data = bytearray(out.read_bytes())
    with Archive(out) as opened:
        data[opened.segments[0] + container.HEAD_BYTES + 9] ^= 4
    out.write_bytes(data)
    with Archive(out) as opened:
        assert extract(opened, opened.entries, tmp_path / "out", one_file=False).lost == ("f",)
    assert not list(tmp_path.glob("out/*"))


def test_members_are_named_by_their_folder(tmp_path):
    write(tmp_path / "in", FILES)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "c")
    (tmp_path / "in" / "none").mkdir()
    members, total, left_out = members_of([str(tmp_path / "in")])
    assert [member.name for member in members] == ["in/c", "in/a/one", "in/a/two", "in/b/empty", "in/b/three"]
    assert total == sum(map(len, FILES.values()))
    assert [Path(name).name for name in left_out] == ["link", "none"]
    assert members_of([str(tmp_path / "in" / "c"), "-"])[1] is None
    with pytest.raises(UsageError, match="does not exist"):
        members_of([str(tmp_path / "none")])


@pytest.mark.parametrize("wrong", [{"coder": "zip"}, {"segment_mb": -1}, {"segment_mb": float("nan")}])
def test_configs_are_checked(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        CompressConfig(**wrong)


def test_many_files_are_open_one_at_a_time(tmp_path):
    opened, most = set(), []

    class Counted(Nowhere):
        def __init__(self, entry):
            opened.add(self)
            most.append(len(opened))

        def keep(self):
            opened.remove(self)

    with Archive(archive_of(tmp_path, {f"{number}": b"x" for number in range(20)})) as archive:
        assert not archive.read(archive.entries, Counted).lost
    assert len(most) == 20 and max(most) == 1


def test_an_interrupted_reader_drops_what_it_wrote(tmp_path):
    class Full(Exception):
        pass

    class Disk(Nowhere):
        dropped = False

        def write(self, data):
            raise Full

        def drop(self):
            Disk.dropped = True

    with Archive(archive_of(tmp_path, {"f": SESSION})) as archive, pytest.raises(Full):
        archive.read(archive.entries, lambda _: Disk())
    assert Disk.dropped


@pytest.mark.parametrize("changed", [{"number": 1}, {"path": "g"}])
def test_two_files_with_one_name_or_number_are_refused(tmp_path, changed):
    entry = {
        "path": "f",
        "size": 0,
        "sha256": "",
        "mode": 0,
        "modified": 0,
        "number": 0,
        "form": "bytes",
        "coded": 0,
        "segments": [-1, -1],
    }
    header = container.write_header(codec.new_codec(method.Method(), "ac").header)
    entries = [json.dumps({**entry, **more}).encode() for more in ({}, changed)]
    path = tmp_path / "x.sttx"
    path.write_bytes(header + b"".join(container.write_record(container.FILE, one) for one in entries))
    with pytest.raises(DataError, match="twice"):
        Archive(path)


def test_a_name_that_no_file_can_have_is_refused():
    entry = {"path": "\ud800", "size": 0, "sha256": "", "mode": 0, "modified": 0, "number": 0}
    entry |= {"form": "bytes", "coded": 0}
    with pytest.raises(DataError, match="cannot store"):
        container.read_entry({**entry, "segments": [-1, -1]})


def test_a_damaged_archive_is_not_continued(tmp_path):
    out = archive_of(tmp_path, FILES, EACH_APART)
    data = bytearray(out.read_bytes())
    with Archive(out) as opened:
        data[opened.segments[1] - 9] ^= 4  # the first file's name and size
    out.write_bytes(data[:-1])
    with pytest.raises(DataError, match="damaged at byte"):
        compress(write(tmp_path / "in", FILES), out, resume=True)
    assert out.read_bytes() == data[:-1]


def test_an_index_whose_end_is_missing_is_written_again(tmp_path):
    out = archive_of(tmp_path, FILES)
    whole = out.read_bytes()
    out.write_bytes(whole[:-3])
    compress(write(tmp_path / "in", FILES), out, resume=True)
    assert out.read_bytes() == whole


def test_no_file_is_written_through_a_link(tmp_path):
    out = archive_of(tmp_path, {"a/f": b"x"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with Archive(out) as opened, pytest.raises(UsageError, match="is a link"):
        extract(opened, opened.entries, tmp_path / "out", one_file=False)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_files_that_do_not_fit_on_the_disk_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    out = archive_of(tmp_path, {"a": b"{}\n" * 20_000, "b": b"b"})
    assert out.stat().st_size < 2_000, "repeated lines become many from a small archive"
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Mock(free=60_000))
    with Archive(out) as archive:
        with pytest.raises(DataError, match="60,001 bytes, .* has room for 60,000"):
            extract(archive, archive.entries, tmp_path / "out", one_file=False)
        assert not (tmp_path / "out").exists()
        assert not extract(archive, archive.named(["b"]), tmp_path / "b", one_file=True).lost


def test_a_block_gives_no_more_bytes_than_a_block_has(archive, monkeypatch):
    with Archive(archive) as opened:
        coder = codec.codec_for(opened.header)
    longest = int(coder._lengths.argmax())
    monkeypatch.setattr(Experts, "decode", lambda *_: np.full(container.BLOCK_BYTES, longest))
    coder.start_segment()
    tracemalloc.start()
    assert coder.decode([(0, container.BLOCK_BYTES, b"")], lambda _: None) == [b""]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * container.BLOCK_BYTES


def test_an_archive_says_how_large_its_tables_are(tmp_path):
    for bits in (20, 21, 24):  # as levels had and have them
        sizes = ExpertsConfig(slot_bits=bits, history_bits=18, index_bits=16)
        (tmp_path / f"{bits}").mkdir()
        out = tmp_path / f"{bits}" / "x.sttx"
        compress(write(tmp_path / "in", FILES), out, method=method.Method(experts=sizes))
        with Archive(out) as opened:
            assert opened.header["experts"]["slot_bits"] == bits
        assert contents(out)[0] == FILES
