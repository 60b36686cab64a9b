"""`sttx info`: what its measures print, that they agree with each other, and how they fail."""

import io
import random
import sys
from types import SimpleNamespace

import pytest

from sttx_cli.commands import info

WORDS = ["the", "file", "was", "read", "again", "and", "test", "passes"]


def prose(seed, count=80):
    dice = random.Random(seed)
    return "".join(dice.choice(WORDS) + ("\n" if turn % 8 == 7 else " ") for turn in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of two texts with ten lines each, and one of nine."""
    path = tmp_path_factory.mktemp("texts")
    (path / "a").write_text(prose(1))
    (path / "b").write_text(prose(2))
    (path / "c").write_bytes(prose(3, 64).encode() + b"\xff")
    return path


@pytest.fixture
def measure(sttx, tiny_model):
    """Return a function that measures by the tiny model, by default without experts."""

    def run(name, *arguments, experts="off"):
        result = sttx("info", name, *arguments, "--model", tiny_model, "--experts", experts)
        assert result.code == 0, result.err
        return result

    return run


def test_entropy_of_texts_and_their_segments(measure, folder):
    report = measure("entropy", folder / "a", folder / "b", "--segments", 100, "--json").json
    assert [row["text"] for row in report["texts"]] == ["a", "b"]
    for row in report["texts"]:
        assert row["bytes"] == len((folder / row["text"]).read_bytes()) == row["tokens"]
        assert row["bits"] == row["network_bits"] == 8 * row["code_bytes"]
        assert row["bits_per_byte"] == row["bits"] / row["bytes"]
        assert sum(part["bits"] for part in row["segments"]) == pytest.approx(row["bits"])
        assert [part["bytes"] for part in row["segments"]][:-1] == [100] * (len(row["segments"]) - 1)
    assert report["bits"] == pytest.approx(sum(row["bits"] for row in report["texts"]))
    shown = measure("entropy", folder / "a", folder / "b", "--segments", 100).out.splitlines()
    assert " ".join(shown[1].split()) == "text bytes bits code bytes bits per byte network alone"
    assert shown[4].startswith("(total)") and shown[6] == "a" and shown[7].startswith("from byte")


def test_a_chain_is_what_the_concatenation_costs(measure, folder, tmp_path):
    chain = measure("conditional", folder / "a", folder / "b", "--json").json
    (tmp_path / "both").write_text(prose(1) + prose(2))
    whole = measure("entropy", tmp_path / "both", "--json").json
    assert chain["bits"] == pytest.approx(whole["bits"], abs=1e-4 * whole["bytes"])
    assert "(total)" in measure("conditional", folder / "a", folder / "b").out


def test_experts_remember_the_text_before(measure, folder):
    report = measure("conditional", folder / "a", folder / "a", "--json", experts="on").json
    first, again = report["texts"]
    assert again["bits"] < 0.1 * first["bits"] and first["bits"] < first["network_bits"]
    table = measure("distance", folder / "a", folder / "b", experts="on").out.splitlines()
    assert [line.split()[0] for line in table[1:]] == ["text", "(1)", "(2)"]
    assert float(table[2].split()[2]) < 0.2 < float(table[2].split()[3]) == float(table[3].split()[2])


def test_joint_and_mutual(measure, folder):
    joint = measure("joint", folder / "a", folder / "b", "--json").json
    alone = [row["bits"] for row in joint["texts"]]
    assert joint["bits"] == pytest.approx(sum(row["joint_bits"] for row in joint["texts"]))
    assert joint["shared_bits"] == pytest.approx(sum(alone) - joint["bits"])
    mutual = measure("mutual", folder / "a", folder / "b", "--json").json
    both = [mutual["first_about_second_bits"], mutual["second_about_first_bits"]]
    assert mutual["bits"] == pytest.approx(sum(both) / 2)
    assert mutual["asymmetry_bits"] == pytest.approx(abs(both[0] - both[1]))
    assert mutual["texts"][1]["after_other_bits"] == pytest.approx(alone[1] - both[0], abs=0.1)
    assert "shared: " in measure("joint", folder / "a", folder / "b").out
    assert "mutual information, their mean: " in measure("mutual", folder / "a", folder / "b").out


def test_the_rate_has_a_curve(measure, folder):
    report = measure("rate", folder / "a", "--window", 100, "--json").json
    last = report["windows"][-report["settled"] :]
    expected = sum(part["bits"] for part in last) / sum(part["bytes"] for part in last)
    assert report["bits_per_byte"] == pytest.approx(expected)
    assert report["mean_bits_per_byte"] == pytest.approx(report["bits"] / report["bytes"])
    assert "entropy rate: " in measure("rate", folder / "a").out


def test_standard_input_folders_and_sessions(measure, folder, sessions, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"any \xff bytes")))
    report = measure("entropy", "-", folder, "--from", sessions, "--json").json
    names = [row["text"] for row in report["texts"]]
    assert names[0] == "-" and names[1:4] == [f"{folder.name}/{name}" for name in "abc"]
    assert names[4:] == ["document 1", "document 2"] and report["texts"][0]["bytes"] == 11


def test_what_a_run_has_read_costs_little(measure, finished, sessions):
    fresh = measure("entropy", "--from", sessions, "--json", experts="on").json
    known = measure("entropy", "--from", sessions, "--json", "--checkpoint", finished, experts="on").json
    assert known["bytes"] == fresh["bytes"] and known["bits"] < 0.9 * fresh["bits"]
    assert known["network_bits"] != fresh["network_bits"], "the network has learned too"


def test_the_size_is_that_of_the_archive(sttx, folder, tmp_path):
    report = sttx("info", "size", folder, "--segment-mb", 0, "--json").json
    assert sttx("compress", folder, "--segment-mb", 0, "-o", tmp_path / "a.sttx").code == 0
    assert report["bytes_out"] == (tmp_path / "a.sttx").stat().st_size
    assert (report["files"], report["method"]) == (3, "experts[primed]")
    assert report["bpb"] == pytest.approx(8 * report["bytes_out"] / report["bytes_in"])
    assert f"3 files, {report['bytes_in']:,} bytes in" in sttx("info", "size", folder).out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("entropy", 2, "measures at least 1 text, not 0: name files"),
        ("conditional A", 2, "measures at least 2 texts, not 1"),
        ("mutual A B C", 2, "measures 2 texts, not 3"),
        ("rate A B", 2, "measures 1 text, not 2"),
        ("joint A C", 2, "'a' has 10 lines and 'c' 9: each line"),
        ("entropy MISSING", 2, "does not exist"),
        ("entropy A --no-redact", 2, "--no-redact would have no effect"),
        ("entropy A --segments 0", 2, "--segments"),
        ("entropy - -", 2, "standard input can be read once"),
        ("entropy A --checkpoint MISSING", 2, "no checkpoint at"),
        ("entropy A --model nobody", 2, "no model at 'nobody'"),
        ("size A --streams 3", 2, "--streams is for a network"),
        ("size MISSING", 2, "does not exist"),
        ("entropi A", 2, "Did you mean 'entropy'?"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(sttx, folder, monkeypatch, arguments, code, message):
    monkeypatch.setattr(info, "load", None)
    places = {"A": folder / "a", "B": folder / "b", "C": folder / "c", "MISSING": folder / "no"}
    result = sttx("info", *(places.get(word, word) for word in arguments.split()))
    assert (result.code, result.out) == (code, "")
    assert message in " ".join(result.err.split()) and "Traceback" not in result.err
