"""`sttx data`: builds of every kind of data, what a path holds, and a build that is killed."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from sttx_core.tokenizers import ByteTokenizer
from sttx_train.data.mmididx import PairDocuments

TEXT = ByteTokenizer()


@pytest.fixture
def data(tmp_path):
    """A text, JSON lines, an array, and lists of numbers."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("secönd")
    (folder / "b.jsonl").write_text('{"text": "first"}\nnonsense\n')
    np.save(folder / "c.npy", [[3, 1, 4], [1, 5, 9]])
    (folder / "d.jsonl").write_text("[2, 7]\n")
    return folder


@pytest.fixture
def pair(sttx, data, tmp_path):
    """A pair built of the text, by bytes."""
    out = tmp_path / "p"
    assert sttx("data", "build", data / "a.txt", "--out", out, "--tokenizer", "bytes").code == 0
    return out


def texts_of(prefix):
    documents = PairDocuments(prefix)
    return [TEXT.decode(documents.read(at, 0, int(n)).tolist()) for at, n in enumerate(documents.lengths)]


class TestBuild:
    def test_texts_and_sessions(self, sttx, data, sessions, tmp_path):
        out = tmp_path / "new" / "corpus"
        given = [data / "b.jsonl", sessions, data / "a.txt"]
        result = sttx("data", "build", *given, "--out", out, "--tokenizer", "bytes", "--json")
        assert result.code == 0, result.err
        first, second, *talk = texts_of(out)
        assert (first, second) == ("first", "secönd") and len(talk) == 2
        assert all(text.startswith("User: Please run test number 0.") for text in talk)
        report = result.json
        assert report.pop("seconds") > 0
        size = sum(len(text.encode()) for text in texts_of(out))
        assert report == {
            "out": [f"{out}.bin", f"{out}.idx"],
            "documents": 4,
            "ids": size + 4,
            "dtype": "uint16",
            "text_bytes": size,
            "bytes_per_token": size / (size + 4),
            "kinds": {
                str(data / "b.jsonl"): "json lines",
                str(data / "a.txt"): "text",
                str(sessions): "sessions",
            },
            "skipped": 0,
            "damaged": 1,
            "redacted": report["redacted"],
        }
        assert "1 damaged line was left out: 2" in result.err and "sessions: file" in result.err
        assert "4 documents" in result.err

    def test_values(self, sttx, data, tmp_path):
        out = tmp_path / "values.bin"
        result = sttx(
            "data", "build", data / "c.npy", data / "d.jsonl", "--out", out, "--tokenizer", "integer:9"
        )
        assert result.code == 0, result.err
        documents = PairDocuments(tmp_path / "values")
        assert documents.ids.tolist() == [4, 2, 5, 0, 2, 6, 10, 0, 3, 8, 0]
        assert result.out.startswith("3 documents, 11 ids (uint16).\nWritten: ")

    def test_a_large_vocabulary_needs_32_bits(self, sttx, data, tmp_path):
        line = ["data", "build", data / "c.npy", "--out", tmp_path / "x", "--tokenizer", "integer:70000"]
        assert sttx(*line).code == 0
        assert PairDocuments(tmp_path / "x").ids.dtype == np.int32

    def test_the_default_vocabulary_is_the_embedded_models(self, sttx, data, tmp_path):
        result = sttx("data", "build", data / "a.txt", "--out", tmp_path / "x")
        assert result.code == 0 and "tokenizer: that of goose-mini" in result.err

    def test_files_that_are_not_text_are_counted(self, sttx, data, tmp_path):
        line = ["data", "build", data, "--out", tmp_path / "x", "--tokenizer", "bytes", "--json"]
        result = sttx(*line)
        assert result.json["skipped"] == 1 and "such as" in result.err and "c.npy" in result.err

    @pytest.mark.parametrize(
        ("given", "options", "code", "message"),
        [
            (["a.txt"], ["--tokenizer", "integer:9"], 2, "holds text, but the tokenizer is one of numbers"),
            (["c.npy"], ["--tokenizer", "bytes"], 2, "holds numbers, but the tokenizer is one of text"),
            (["c.npy"], ["--tokenizer", "integer:8"], 2, "row 1 of '.*c.npy': value 9 at position 2"),
            (["a.txt"], ["--tokenizer", "words"], 2, "'words' is neither a tokenizer nor a file"),
            (["gone"], ["--tokenizer", "bytes"], 2, "gone' does not exist"),
            (["a.txt"], ["--no-redact"], 2, "--no-redact would have no effect: there are no sessions"),
            (["a.txt"], ["--redact-rules", "x"], 2, "--redact-rules would have no effect"),
        ],
    )
    def test_mistakes_are_one_sentence_and_leave_nothing(
        self, sttx, data, tmp_path, given, options, code, message
    ):
        result = sttx("data", "build", *(data / name for name in given), "--out", tmp_path / "x", *options)
        assert (result.code, result.out) == (code, "") and result.err.count("\n") == 1
        assert re.search(message, result.err), result.err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]

    def test_nothing_is_overwritten(self, sttx, data, tmp_path, unchanged):
        (tmp_path / "x.bin").write_bytes(b"\0\0")
        with unchanged(tmp_path):
            result = sttx("data", "build", data / "a.txt", "--out", tmp_path / "x", "--tokenizer", "bytes")
            assert result.code == 2 and "already exists" in result.err

    def test_a_killed_build_leaves_no_pair(self, start, tmp_path):
        np.tile(np.array([0, 5], "<u2"), 2_000_000).tofile(tmp_path / "flat.bin")
        line = ["data", "build", tmp_path / "flat.bin", "--out", tmp_path / "x", "--tokenizer", "bytes"]
        with start(*line) as process:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(".x.bin.new-*")) and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.stdin.close()
        assert list(tmp_path.glob(".x.bin.new-*")), "it was killed before it wrote"
        assert not (tmp_path / "x.bin").exists() and not (tmp_path / "x.idx").exists()


class TestVocabulary:
    """A pair keeps which vocabulary it was built with, and is not read with another."""

    @pytest.mark.parametrize(
        "line",
        [
            ["pretrain", "PAIR", "--out", "OUT", "--tokenizer", "integer:400"],
            ["data", "show", "PAIR", "--tokenizer", "angle"],
            ["data", "build", "PAIR", "--out", "OUT"],
        ],
    )
    def test_another_one_is_refused(self, sttx, pair, tmp_path, unchanged, line):
        places = {"PAIR": str(pair), "OUT": str(tmp_path / "out")}
        with unchanged(tmp_path):
            result = sttx(*(places.get(word, word) for word in line))
        assert result.code == 2 and "p.bin' was encoded with another vocabulary" in result.err

    def test_a_pair_can_be_built_again_with_its_vocabulary(self, sttx, pair, tmp_path):
        out = tmp_path / "q"
        assert sttx("data", "build", f"{pair}.idx", "--out", out, "--tokenizer", "bytes").code == 0
        assert texts_of(out) == texts_of(pair)
        assert (tmp_path / "q.sttx.json").read_bytes() == (tmp_path / "p.sttx.json").read_bytes()

    def test_vocabularies_of_whole_numbers_are_compatible(self, sttx, data, tmp_path):
        out = tmp_path / "n"
        assert sttx("data", "build", data / "d.jsonl", "--out", out, "--tokenizer", "integer:9").code == 0
        assert sttx("data", "show", out, "--tokenizer", "integer:500", "--json").json["first"]["decoded"]
        assert sttx("data", "show", out, "--tokenizer", "bytes").code == 2

    def test_a_note_of_replaced_files_is_ignored(self, sttx, pair, data, tmp_path):
        other = tmp_path / "other"
        (data / "more.txt").write_text("another program's, of another vocabulary")
        assert sttx("data", "build", data / "more.txt", "--out", other).code == 0
        for ending in (".bin", ".idx"):
            other.with_suffix(ending).replace(pair.with_suffix(ending))
        assert sttx("data", "build", pair, "--out", tmp_path / "again").code == 0

    def test_the_note_of_a_pair_is_not_data(self, sttx, pair, data, tmp_path):
        for file in tmp_path.glob("p.*"):
            file.rename(data / file.name)
        (data / "c.npy").unlink()
        result = sttx("data", "build", data, "--out", tmp_path / "q", "--tokenizer", "bytes")
        assert result.code == 0 and not any("vocabulary" in text for text in texts_of(tmp_path / "q"))

    def test_another_programs_file_is_not_overwritten(self, sttx, data, tmp_path, unchanged):
        (tmp_path / "p.sttx.json").write_text('{"mine": true}')
        with unchanged(tmp_path):
            result = sttx("data", "build", data / "a.txt", "--out", tmp_path / "p", "--tokenizer", "bytes")
        assert result.code == 2 and "p.sttx.json' already exists" in result.err

    @pytest.mark.parametrize("damage", ["{}", "null", "{", '{"vocabulary": 5, "entries": 1, "bin_bytes": 2}'])
    def test_a_damaged_note_is_named(self, sttx, pair, tmp_path, damage):
        (tmp_path / "p.sttx.json").write_text(damage)
        result = sttx("data", "show", pair, "--tokenizer", "bytes")
        assert result.code == 1 and "p.sttx.json' is damaged" in result.err


class TestShow:
    def test_the_table(self, sttx, pair):
        result = sttx("data", "show", pair, "--tokenizer", "bytes")
        rows = dict(line.split("  ", 1) for line in result.out.splitlines()[1:])
        rows = {name.strip(): value.strip() for name, value in rows.items()}
        assert rows["kind"] == "pair" and (rows["documents"], rows["ids"]) == ("1", "8")
        assert rows["median document"] == "8 ids" and rows["first text"] == '"secönd"'
        assert rows["vocabulary"] == "needs 197; fits 257" and rows["bytes per token"] == "0.875"

    def test_without_a_tokenizer_ids_are_not_decoded(self, sttx, pair):
        result = sttx("data", "show", pair)
        assert "not decoded: give --tokenizer" in result.out and result.err == ""

    def test_a_vocabulary_that_does_not_fit_is_reported(self, sttx, pair, tmp_path):
        (tmp_path / "p.sttx.json").unlink()  # as other programs' pairs, which do not say what made them
        result = sttx("data", "show", pair, "--tokenizer", "angle")
        assert "fits 361" in result.out and "first values" in result.out
        result = sttx("data", "show", pair, "--tokenizer", "integer:9", "--json")
        assert result.json["vocabulary"] == {"needed": 197, "size": 11, "fits": False}

    def test_text_is_encoded_by_the_embedded_model(self, sttx, data):
        result = sttx("data", "show", data / "a.txt", "--json")
        assert result.json["first"]["decoded"] == "secönd" and "goose-mini" in result.err

    def test_sessions_are_shown_elsewhere(self, sttx, sessions):
        result = sttx("data", "show", sessions)
        assert result.code == 2 and "`sttx traces` lists and shows them" in result.err

    def test_control_sequences_are_not_printed(self, sttx, tmp_path):
        (tmp_path / "x.txt").write_text("\x1b[31mred\x9b2J\u202e")
        out = sttx("data", "show", tmp_path / "x.txt", "--tokenizer", "bytes").out
        assert not set("\x1b\x9b\u202e") & set(out)

    def test_torch_is_not_imported(self, data):
        line = ["data", "show", str(data / "a.txt"), "--tokenizer", "bytes"]
        code = f"import sys; from sttx_cli import run; run({line!r}); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_build_is_the_same_from_text_and_from_json_lines(sttx, tmp_path):
    (tmp_path / "t.txt").write_text("one")
    (tmp_path / "j.jsonl").write_text(json.dumps({"text": "one"}))
    for name in ("t.txt", "j.jsonl"):
        out = tmp_path / f"out-{name}"
        assert sttx("data", "build", tmp_path / name, "--out", out, "--tokenizer", "bytes").code == 0
    assert (tmp_path / "out-t.txt.bin").read_bytes() == (tmp_path / "out-j.jsonl.bin").read_bytes()
    assert (tmp_path / "out-t.txt.idx").read_bytes() == (tmp_path / "out-j.jsonl.idx").read_bytes()
