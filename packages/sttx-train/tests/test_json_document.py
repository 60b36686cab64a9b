"""JSON files that are not JSON lines: arrays and pretty objects are read as entries, or it is said."""

import json

import pytest

from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer
from sttx_train.data.bpe import find_texts, read_pieces
from sttx_train.data.detect import detect_format, holds_numbers
from sttx_train.data.reader import open_data

TEXT, TEN = ByteTokenizer(), IntegerTokenizer(9)
TWO = [{"text": "one"}, {"text": "zwei"}]
ROWS = [[3, 1], [4]]


def written(path, value, **options):
    path.write_text(value if isinstance(value, str) else json.dumps(value, **options), encoding="utf-8")
    return path


def decoded(path, tokenizer, say=None):
    documents = open_data([path], tokenizer, say=say).documents
    lengths = enumerate(documents.lengths.tolist())
    return [tokenizer.decode(documents.read(at, 0, length).tolist()) for at, length in lengths]


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("name", ["x.json", "x.txt", "x.jsonl", "x"])
@pytest.mark.parametrize(
    "value",
    [TWO, ["one", "zwei"], {"text": ["one", "zwei"]}, [{"id": 1, "text": "one"}, {"text": "zwei"}]],
    ids=str,
)
def test_texts(tmp_path, value, name, indent):
    path = written(tmp_path / name, value, indent=indent)
    assert detect_format(path) == "json" and not holds_numbers(path)
    assert decoded(path, TEXT) == ["one", "zwei"]
    texts = find_texts([path])
    assert list(read_pieces(texts)) == ["one", "zwei"]


@pytest.mark.parametrize("value", [ROWS, [{"values": row} for row in ROWS], {"input_ids": ROWS}], ids=str)
def test_lists_of_integers(tmp_path, value):
    path = written(tmp_path / "x.json", value, indent=2)
    assert detect_format(path) == "json" and holds_numbers(path)
    assert decoded(path, TEN) == ROWS
    with pytest.raises(
        UsageError, match="entry 1 of .*x.json' holds numbers, but the tokenizer is one of text"
    ):
        decoded(path, TEXT)
    with pytest.raises(UsageError, match="entry 2 of .*: value 4 at position 0 is not from 0 to 3"):
        decoded(path, IntegerTokenizer(3))


def test_an_array_of_integers_is_one_document(tmp_path):
    assert decoded(written(tmp_path / "x.json", [3, 1, 4], indent=0), TEN) == [[3, 1, 4]]


def test_pretty_objects_one_after_the_other(tmp_path):
    pretty = "\n".join(json.dumps(entry, indent=2) for entry in TWO) + "\n"
    assert decoded(written(tmp_path / "x.json", pretty), TEXT) == ["one", "zwei"]


def test_a_long_file_is_known_by_its_first_entry(tmp_path):
    texts = ["a" * 70_000, "b"]
    path = written(tmp_path / "x.json", [{"text": text} for text in texts], indent=1)
    assert decoded(path, TEXT) == texts
    path.write_text(path.read_text()[:-5])
    with pytest.raises(
        DataError, match=r"x.json' is not complete JSON \(.*\): write it again, or as JSON lines"
    ):
        decoded(path, TEXT)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sttx_train.data.json_document.LARGEST", 20)
    with pytest.raises(DataError, match="one JSON document of .* bytes, and at most 20 are read at once"):
        decoded(written(tmp_path / "x.json", TWO), TEXT)


def test_entries_that_are_none_are_counted_and_named(tmp_path):
    said: list[str] = []
    path = written(tmp_path / "x.json", [{"title": "no text"}, *TWO, 7], indent=1)
    assert decoded(path, TEXT, said.append) == ["one", "zwei"]
    assert said == [f"{str(path)!r}: 2 damaged entries were left out: 1, 4"]
    with pytest.raises(DataError, match="entry 2 of .* holds integers, the entries before it text"):
        decoded(written(tmp_path / "y.json", ["one", [1]]), TEXT)


@pytest.mark.parametrize(
    ("content", "noted"),
    [
        ('{\n  "name": "x"\n}\n', True),
        ('[{"title": "x"}]', True),
        ('{"prompt": "a"}\n{"prompt": "b"}\n', True),
        ("[see there](x)\n", False),
        ("[1] Smith, A.\n[2] Jones, B.\n", False),
        ('"a quotation"\n', False),
        ("{braces}\n", False),
    ],
)
def test_other_json_is_read_as_plain_text_with_a_note(tmp_path, content, noted):
    said: list[str] = []
    path = written(tmp_path / "x.txt", content)
    assert detect_format(path) == "text"
    assert decoded(path, TEXT, said.append) == [content]
    assert [line for line in said if "is read as one plain text: it is JSON" in line] == said
    assert len(said) == noted


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.parquet", b"PAR1\x15\0\x15", "a Parquet file: write its texts as JSON lines"),
        ("x.arrow", b"ARROW1\0\0", "an Arrow file"),
        ("x.arrow", b"\xff\xff\xff\xff\x70\0\0\0", "an Arrow stream"),
        ("x.sqlite", b"SQLite format 3\0", "an SQLite database"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("x.pkl", b"\x80\x04\x95", "holds Python objects"),
        ("x.lz4", b"\x04\x22\x4d\x18", r"compressed \(lz4\)"),
        ("x.bin", b"\x98\xd8\x34\x01\1\0\0\0", "the header of llm.c"),
        ("x.pdf", b"%PDF-1.4\n", "a PDF document"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}' (is |holds )?.*{what}"):
        open_data([tmp_path / name], TEXT)


@pytest.mark.parametrize("start", ["PAR1 is a word", "ORCHESTRA", "GGUF models"])
def test_a_text_may_start_like_another_format(tmp_path, start):
    assert decoded(written(tmp_path / "x.txt", start), TEXT) == [start]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_utf_16_is_refused_by_name(tmp_path, encoding):
    (tmp_path / "x.txt").write_text("some words\n", encoding=encoding)
    name = encoding.upper().replace("16-", "16")
    with pytest.raises(DataError, match=f"x.txt' is not text in UTF-8 but in {name}: convert it"):
        open_data([tmp_path / "x.txt"], TEXT)
