"""`sttx memory reproduce`: what it prints and writes, and its exit code."""

import json
import xml.etree.ElementTree as xml

import pytest

import sttx_core.memory.experiment
from sttx_cli.memory_plot import draw
from sttx_core.memory.trials import expected_trials

FILES = ["plot.svg", "report.md", "summary.json", "trials.jsonl"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, sttx):
    folder = tmp_path_factory.mktemp("memory") / "new" / "out"
    return sttx("memory", "reproduce", "--out", folder, "--json"), folder


def test_the_contract(finished):
    result, folder = finished
    assert result.code == 0, result.err
    assert result.json["reproduced"] is True
    assert (result.json["rows"], result.json["seeds"], result.json["out"]) == (110, 5, str(folder))
    assert result.json["largest_difference"] <= result.json["tolerance"] == 1e-6
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_the_trials_have_the_keys_and_order_of_the_original(finished):
    _, folder = finished
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [list(trial) for trial in trials] == [list(row) for row in expected_trials()]
    assert trials == [pytest.approx(row, abs=1e-6) for row in expected_trials()]


def test_the_summary_and_the_report(finished):
    _, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["reproduced"] is True and summary["study"] is None
    assert set(summary["verdicts"].values()) == {True}
    report = (folder / "report.md").read_text()
    assert "**Reproduced.** 110 rows" in report and "![Recall](plot.svg)" in report


def test_the_plot_is_a_picture_of_the_means(finished):
    _, folder = finished
    root = xml.parse(folder / "plot.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    dots = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(dots) == 3 * 5 * 2
    summary = json.loads((folder / "summary.json").read_text())
    first = next(group for group in summary["groups"] if group["metric"] == "state_only")
    assert first["means"]["linear_state"]["mean"] == pytest.approx(1.0)
    assert float(dots[0].attrib["cx"]) == max(float(dot.attrib["cx"]) for dot in dots)


def test_with_more_seeds_the_plot_has_curves_over_bytes(finished):
    _, folder = finished
    summary = json.loads((folder / "summary.json").read_text())
    rows = [
        {"needles": 16, "filler": 8, "bytes": size, "way": way, "cosine": {"mean": m, "low": m, "high": m}}
        for way in ("fixed, norm", "fixed, centroid", "wide <state>")
        for size, m in ((8192, 0.7), (16384, 0.9))
    ]
    picture = draw(summary | {"study": {"budgets": rows}})
    lines = [node for node in xml.fromstring(picture).iter() if node.tag.endswith("polyline")]
    assert len(lines) == 2  # reads from the nearest mean key are in the table only
    heights = [float(point.split(",")[1]) for point in lines[0].attrib["points"].split()]
    assert heights[1] < heights[0]


def test_in_words(sttx):
    result = sttx("memory", "reproduce")
    assert (result.code, result.err) == (0, "") or "reproducing" in result.err
    first, *verdicts = result.out.splitlines()
    assert first.startswith("Reproduced: 110 rows were compared; the largest difference is ")
    assert len(verdicts) == 5 and all(line.endswith(": yes") for line in verdicts)


def test_a_row_that_differs_is_exit_code_1(sttx, monkeypatch):
    rows = expected_trials()
    rows[7]["bound_dla"] += 2e-6
    monkeypatch.setattr(sttx_core.memory.experiment, "expected_trials", lambda: rows)
    result = sttx("memory", "reproduce", "--json")
    assert (result.code, result.json["reproduced"]) == (1, False)
    assert "Not reproduced: 110 rows were compared" in result.err


@pytest.mark.parametrize("seeds", ["4", "many"])
def test_seeds_that_cannot_be_are_refused(sttx, seeds):
    result = sttx("memory", "reproduce", "--seeds", seeds)
    assert (result.code, result.out) == (2, "")
    assert "--seeds" in result.err


def test_a_link_in_the_folder_is_refused_before_anything_runs(sttx, tmp_path):
    (tmp_path / "report.md").symlink_to(tmp_path / "elsewhere.md")
    result = sttx("memory", "reproduce", "--out", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "report.md" in result.err and not (tmp_path / "elsewhere.md").exists()
