"""Paths of every data format, detected by content, become documents in order, with facts about them."""

import gzip
import json
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer, TrieTokenizer, create_vocab_file
from sttx_train.data.detect import detect_format
from sttx_train.data.documents import Packed
from sttx_train.data.encoding import encode_documents
from sttx_train.data.mmididx import write_pair
from sttx_train.data.reader import open_data
from sttx_train.data.sampling import Sampler

TEXT, TEN = ByteTokenizer(), IntegerTokenizer(9)
WORDS = ["first", "secönd", "third"]


def json_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def text_of(documents):
    return [TEXT.decode(documents.read(at, 0, int(n))) for at, n in enumerate(documents.lengths)]


def values_of(documents):
    return [TEN.decode(documents.read(at, 0, int(n)).tolist()) for at, n in enumerate(documents.lengths)]


@pytest.fixture
def texts(tmp_path):
    """The same three documents as each kind of file that can hold texts."""
    (tmp_path / "tree").mkdir()
    for number, word in enumerate(WORDS):
        (tmp_path / "tree" / f"{number}.txt").write_text(word, encoding="utf-8")
    ids = encode_documents(WORDS, TEXT)
    np.array(ids, "<u2").tofile(tmp_path / "flat.bin")
    write_pair(Packed(ids), tmp_path / "pair", vocab_size=TEXT.vocab_size)
    json_lines(tmp_path / "lines.jsonl", [{"text": word} for word in WORDS])
    kinds = {"tree": "text", "flat.bin": "flat", "pair": "pair", "lines.jsonl": "json lines"}
    return {tmp_path / name: kind for name, kind in kinds.items()}


@pytest.fixture
def values(tmp_path):
    """The same two documents as each kind of file that can hold values."""
    rows = [[3, 1, 4], [1, 5, 9]]
    np.save(tmp_path / "rows.npy", rows)
    json_lines(tmp_path / "rows.jsonl", rows)
    write_pair(Packed(np.array([0, 4, 2, 5, 0, 2, 6, 10])), tmp_path / "values", vocab_size=TEN.vocab_size)
    kinds = {"rows.npy": "array", "rows.jsonl": "json lines", "values.bin": "pair"}
    return {tmp_path / name: kind for name, kind in kinds.items()}


class TestTexts:
    def test_every_format_gives_the_same_documents(self, texts):
        expected = Sampler(Packed(encode_documents(WORDS, TEXT)), rows=2, context=8).window(0)
        for path, kind in texts.items():
            data = open_data([path], TEXT)
            assert text_of(data.documents) == WORDS, kind
            assert data.kinds == {path: kind} and (data.skipped, data.damaged) == ((), 0)
            assert data.text_bytes == len("".join(WORDS).encode())
            window = Sampler(data.documents, rows=2, context=8).window(0)
            assert np.array_equal(window.inputs, expected.inputs)
            assert np.array_equal(window.targets, expected.targets)

    def test_several_are_joined_in_their_order(self, texts, tmp_path):
        json_lines(tmp_path / "more.jsonl", [{"text": "fourth"}, {"text": ""}])
        paths = [tmp_path / "more.jsonl", *texts, tmp_path / "more.jsonl"]
        data = open_data(paths, TEXT, texts=["last", ""], folder=tmp_path)
        assert text_of(data.documents) == ["fourth", *WORDS * 4, "fourth", "last"]
        assert data.text_bytes == len("".join(["fourth", *WORDS * 4, "fourth", "last"]).encode())

    @pytest.mark.parametrize("piece", [1, 3, 8])
    def test_a_long_file_is_one_document(self, tmp_path, monkeypatch, piece):
        monkeypatch.setattr("sttx_train.data.text_files.PIECE", piece)
        (tmp_path / "x.txt").write_text("one\r\ntwo\nthree, and a lonG line\n", encoding="utf-8", newline="")
        (tmp_path / "y.txt").write_text("")
        (tmp_path / "z.txt").write_text("b")
        data = open_data([tmp_path], TEXT)
        assert text_of(data.documents) == ["one\ntwo\nthree, and a lonG line\n", "b"]
        assert data.text_bytes == 32 and data.skipped == ()

    def test_no_token_crosses_the_pieces_of_a_long_file(self, tmp_path, monkeypatch):
        create_vocab_file([b"\n\n", b"b\nc"], tmp_path / "v.txt")
        trie = TrieTokenizer(tmp_path / "v.txt")
        (tmp_path / "x.txt").write_text("ab\nc\n\nd" * 3)
        whole = open_data([tmp_path / "x.txt"], trie).documents.read_many(0, 1).tolist()
        monkeypatch.setattr("sttx_train.data.text_files.PIECE", 1)
        cut = open_data([tmp_path / "x.txt"], trie).documents.read_many(0, 1).tolist()
        assert whole == [0, *trie.encode("ab\nc\n\nd" * 3)] and len(cut) > len(whole)
        assert trie.decode(cut) == trie.decode(whole) == "ab\nc\n\nd" * 3

    def test_a_file_is_not_in_memory_whole(self, tmp_path, monkeypatch):
        for name in ("text_files.PIECE", "scanning.PIECE", "documents._SCANNED_AT_ONCE"):
            monkeypatch.setattr(f"sttx_train.data.{name}", 1 << 14)
        (tmp_path / "x.txt").write_text("some words\n" * 400_000)
        tracemalloc.start()
        data = open_data([tmp_path], TEXT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert data.text_bytes == 4_400_000 and data.documents.lengths.tolist() == [4_400_001]
        assert peak < 3_000_000, "the file has more than four megabytes"

    def test_texts_alone(self):
        data = open_data([], TEXT, texts=iter(WORDS))
        assert text_of(data.documents) == WORDS and data.kinds == {}

    def test_progress_counts_the_bytes_read(self, texts, tmp_path):
        sizes = []
        open_data([tmp_path / "tree", tmp_path / "lines.jsonl"], TEXT, progress=sizes.append)
        size = (tmp_path / "lines.jsonl").stat().st_size + len("".join(WORDS).encode())
        assert sum(sizes) == size

    def test_what_was_left_out_is_reported(self, texts, tmp_path):
        (tmp_path / "tree" / "x.pyc").write_bytes(b"\0")
        with (tmp_path / "lines.jsonl").open("a") as file:
            file.write("?\n")
        messages = []
        data = open_data([tmp_path / "tree", tmp_path / "lines.jsonl"], TEXT, say=messages.append)
        assert data.skipped == (tmp_path / "tree" / "x.pyc",) and data.damaged == 1
        assert len(messages) == 1 and messages[0].endswith("1 damaged line was left out: 4")


class TestValues:
    def test_every_format_gives_the_same_documents(self, values):
        expected = None
        for path, kind in values.items():
            data = open_data([path], TEN)
            assert values_of(data.documents) == [[3, 1, 4], [1, 5, 9]], kind
            assert data.kinds == {path: kind} and data.text_bytes is None
            window = Sampler(data.documents, rows=2, context=8).window(0)
            expected = window if expected is None else expected
            assert np.array_equal(window.inputs, expected.inputs)
            assert np.array_equal(window.targets, expected.targets)

    @pytest.mark.parametrize("value", [10, -1, -(2**70)])
    def test_a_value_outside_the_vocabulary_is_named_with_its_line(self, tmp_path, value):
        path = json_lines(tmp_path / "x.jsonl", [[1], [2, value]])
        with pytest.raises(
            UsageError, match=f"line 2 of .*x.jsonl': value {value} at position 1 is not from 0 to 9"
        ):
            open_data([path], TEN)


class TestRefusals:
    def test_the_tokenizer_must_fit_the_data(self, texts, values, tmp_path):
        for name in ("tree", "lines.jsonl"):
            with pytest.raises(UsageError, match="holds text, but the tokenizer is one of numbers"):
                open_data([tmp_path / name], TEN)
        for name in ("rows.npy", "rows.jsonl"):
            with pytest.raises(UsageError, match="holds numbers, but the tokenizer is one of text"):
                open_data([tmp_path / name], TEXT)

    def test_ids_of_a_larger_vocabulary(self, texts):
        for path, kind in texts.items():
            if kind in ("flat", "pair"):
                with pytest.raises(
                    DataError, match=f"{path.name}' holds the id 196, but the vocabulary has 11"
                ):
                    open_data([path], TEN)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty: it holds no ids"),
            (b"\0\0\1", "has 3 bytes, an odd number"),
            (b"\5\0\0\0", "starts with the id 5, not with 0, which starts every document"),
        ],
    )
    def test_a_damaged_flat_file_is_refused(self, tmp_path, content, said):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(DataError, match=f"x.bin' {said}"):
            open_data([tmp_path / "x.bin"], TEXT)

    def test_empty_data_is_refused(self, tmp_path):
        (tmp_path / "a.txt").write_text("")
        (tmp_path / "b.pyc").write_bytes(b"\0")
        with pytest.raises(DataError, match=r"nothing to read in '.*' \(1 files are not text\)"):
            open_data([tmp_path], TEXT)
        with pytest.raises(DataError, match="nothing to read in the given texts"):
            open_data([], TEXT, texts=[])

    def test_missing_and_compressed_files_are_refused(self, tmp_path):
        with pytest.raises(UsageError, match="gone' does not exist"):
            detect_format(tmp_path / "gone")
        (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"text"))
        with pytest.raises(DataError, match=r"compressed \(gzip\): unpack it first"):
            detect_format(tmp_path / "x.txt.gz")
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("a.npy", b"")
        with pytest.raises(DataError, match="save one array with numpy.save"):
            detect_format(tmp_path / "x.npz")


class TestKinds:
    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("notes.txt", b'{"text": "a"}\n{"text": "b"}\n', "json lines"),
            ("notes.txt", b"[1, 2]\n[3]\n", "json lines"),
            ("notes.txt", b"[1, 2]\n\nwere the numbers\n", "text"),
            ("notes.md", b"[see there](x)\n", "text"),
            ("package.json", b'{\n  "name": "x"\n}\n', "text"),
            ("package.json", b'{"name": "x"}', "text"),
            ("x.jsonl", b"nonsense\n", "json lines"),
            ("x.ndjson", b"", "json lines"),
            ("empty.txt", b"", "text"),
            ("x.idx", b"nonsense", "pair"),
            ("x.npy", b"nonsense", "array"),
            ("numbers", b"\x93NUMPY\1\0", "array"),
            ("index", b"MMIDIDX\0\0", "pair"),
            ("x.bin", b"\0\0\1\0", "flat"),
            ("long.txt", b'{"text": "%s"}\n' % (b"a" * 70_000), "text"),
            ("cut.txt", b'{"text": "a"}\n' + b'{"text": "%s"}\n' % (b"a" * 70_000), "json lines"),
        ],
    )
    def test_content_decides_before_the_suffix(self, tmp_path, name, content, kind):
        (tmp_path / name).write_bytes(content)
        assert detect_format(tmp_path / name) == kind

    def test_a_pair_may_be_named_by_either_file_or_their_prefix(self, texts, tmp_path):
        assert [detect_format(tmp_path / name) for name in ("pair", "pair.bin", "pair.idx")] == ["pair"] * 3
        (tmp_path / "pair.bin").unlink()
        with pytest.raises(UsageError, match="pair' does not exist"):
            detect_format(tmp_path / "pair")

    def test_a_pipe_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match="pipe' can be read only once"):
            detect_format(tmp_path / "pipe")
