"""The benchmark of the bank of states: its arms read the same, and differ where they must."""

import json

import pytest

from sttx_train import load_model
from sttx_train.online import Window

WORDS = [b"the cat sat on the mat. ", b"five dogs ran over two. ", b"a bird sang to the moon. "]


@pytest.fixture
def bank(benchmark):
    return benchmark("bank")


@pytest.fixture
def windows():
    """Return windows of documents of two projects, one document after another."""
    return [
        Window(
            document=str(document),
            ids=tuple(1 + byte for byte in WORDS[index % 3]),
            project="pq"[document % 2],
        )
        for document in range(4)
        for index in range(document, document + 17)
    ]


def test_controls_read_the_same_and_differ_where_they_must(bank, windows, tiny_model):
    found = dict(bank.frozen(load_model(tiny_model), windows, bank.ARMS))
    assert list(found) == list(bank.ARMS)
    rows = {arm: result["documents"] for arm, result in found.items()}
    assert {tuple(row[0] for row in one.values()) for one in rows.values()} == {
        tuple(row[0] for row in rows["none"].values())
    }
    assert rows["zero"] == rows["none"], "a state of zeros is the same as none"
    for arm in ("bank", "another project's", "shuffled"):
        changed = [name for name, row in rows[arm].items() if row[2] != rows["none"][name][2]]
        assert changed == ["2", "3"], "only these start where their project is known"
    assert len({rows[arm]["2"][2] for arm in ("bank", "another project's", "shuffled")}) == 3
    for arm in bank.EXPERTS:
        assert [row[2] for row in rows[arm].values()] == [row[2] for row in rows["none"].values()]
    assert found["bank"]["bank"]["states"] == 2 and found["none"]["bank"] is None


def test_the_network_may_learn(bank, windows, tiny_model):
    found = dict(bank.state(load_model(tiny_model), windows[:40], ["none", "bank"]))
    none, own = (found[arm]["documents"] for arm in ("none", "bank"))
    assert own["0"] == none["0"] and own["2"] != none["2"]


def test_results_are_kept_and_compared(bank, tmp_path, capsys):
    def row(arm, seed, bits):
        documents = {"a": [10, bits, 2 * bits], "b": [20, bits, 2 * bits]}
        return json.dumps({"learner": "frozen", "seed": seed, "arm": arm, "documents": documents})

    bank.compare([json.loads(row(*one)) for one in [("none", 0, 10.0), ("none", 1, 20.0), ("bank", 0, 9.0)]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith(
        "frozen, bank, paid: 0.6000 bits per byte; saves 10.00% (10.00% to 10.00% over 1 "
    )
    assert "1.0 bits a document" in lines[2] and "2.0 bits a document" in lines[3]
