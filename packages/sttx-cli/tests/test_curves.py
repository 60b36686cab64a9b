"""Reading the metrics of both trainers, whole or cut short, and choosing what is drawn."""

import json

import pytest

from sttx_cli.curves import METRICS, choose_panels, moving_mean, read_metrics
from sttx_core.errors import DataError, UsageError

PRETRAIN = [
    {"step": step, "loss": 5.0 / step, "lr": 0.001 * step, "tokens": 64 * step, "seconds": 2.0 * step}
    | ({"validation_bpb": 4.0 / step, "validation": {"loss": 9.0, "note": "x"}} if step % 2 == 0 else {})
    for step in range(1, 7)
]
STREAM = [
    {
        "step": step,
        "bpb": {"now": 2.0, "paid": 1.0 + 1 / step, "frozen": None},
        "loss": None,
        "bytes": 9 * step,
    }
    | {"tokens": 3 * step, "phrases_on": step > 1, "phrases": step, "seconds": 0.5}
    for step in range(1, 4)
]


@pytest.fixture
def written(tmp_path):
    """Return a function that writes lines as the metrics of a run and returns the run's folder."""

    def write(name, lines, tail=""):
        folder = tmp_path / name
        folder.mkdir()
        (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
        return folder

    return write


def test_a_folder_reads_as_its_metrics_file(written):
    folder = written("run", PRETRAIN)
    assert read_metrics(folder) == read_metrics(folder / METRICS)
    assert read_metrics(folder).columns == [
        "step",
        "loss",
        "lr",
        "tokens",
        "seconds",
        "validation_bpb",
        "validation.loss",
    ]


def test_a_column_may_be_on_some_lines_only(written):
    run = read_metrics(written("run", PRETRAIN))
    assert run.curve("steps", "validation_bpb") == ([2.0, 4.0, 6.0], [2.0, 1.0, 4.0 / 6])
    assert run.curve("tokens", "loss") == ([64.0 * s for s in range(1, 7)], [5.0 / s for s in range(1, 7)])


def test_old_names_of_columns_are_read_as_the_new_ones(written):
    lines = [{"step": 1, "held_" + "out_bpb": 2.0}]
    assert read_metrics(written("run", lines)).columns == ["step", "validation_bpb"]


def test_a_line_without_a_position_has_that_of_the_line_before(written):
    lines = [{"validation_bpb": 9.0}, {"step": 5, "tokens": 50}, {"validation_bpb": 2.0}]
    run = read_metrics(written("run", lines))
    assert run.curve("tokens", "validation_bpb") == ([50.0], [2.0])


def test_seconds_are_those_of_the_run(written):
    """One trainer writes the seconds of each step, the other those of the run."""
    stream, pretrain = read_metrics(written("a", STREAM)), read_metrics(written("b", PRETRAIN))
    assert stream.curve("seconds", "bpb.paid")[0] == [0.5, 1.0, 1.5]
    assert pretrain.curve("seconds", "loss")[0] == [2.0 * step for step in range(1, 7)]


def test_only_finite_numbers_are_kept(written):
    run = read_metrics(written("run", STREAM, '{"step": 4, "bpb": {"now": NaN}, "bytes": 1e999, "s": "x"}\n'))
    assert "bpb.frozen" not in run.columns and "loss" not in run.columns and "s" not in run.columns
    assert run.lines[-1] == {"step": 4.0}
    assert [line.get("phrases_on") for line in run.lines] == [0.0, 1.0, 1.0, None]


@pytest.mark.parametrize("value", ["1" + "0" * 400, "-1" + "0" * 400])
def test_a_number_too_large_for_a_float_is_left_out(written, value):
    run = read_metrics(written("run", [], f'{{"step": 1, "loss": {value}}}\n'))
    assert run.lines == [{"step": 1.0}]


@pytest.mark.parametrize("keep", range(1, 30, 4))
def test_a_last_line_cut_short_does_not_count_as_skipped(written, keep):
    run = read_metrics(written("run", PRETRAIN, '{"step": 7, "loss": 1.25, "l'[:keep]))
    assert (len(run.lines), run.skipped) == (6, 0)


def test_damaged_lines_are_counted(written):
    run = read_metrics(written("run", PRETRAIN[:2], "{oops\n\n[1]\n" + json.dumps(PRETRAIN[2]) + "\n"))
    assert (len(run.lines), run.skipped) == (3, 2)


def test_names_are_safe_to_print(written):
    run = read_metrics(written("run", [{"step": 1, "\x1b[31mred\x07": 1, "half\ud800": 2, "y" * 500: 3}]))
    assert run.columns[1:3] == ["red\\x07", "half?"] and len(run.columns[3]) < 100


@pytest.mark.parametrize(
    ("lines", "chosen"),
    [
        (PRETRAIN, ["loss", "validation_bpb", "lr"]),
        (PRETRAIN[:1], ["loss", "lr"]),
        (STREAM, ["bpb", "phrases"]),
    ],
)
def test_what_is_drawn_by_default(written, lines, chosen):
    panels = choose_panels([read_metrics(written("run", lines))], "steps")
    assert [panel.name for panel in panels] == chosen


def test_a_name_means_all_columns_under_it(written):
    (panel,) = choose_panels([read_metrics(written("run", STREAM))], "bytes", ["bpb"])
    assert [curve.label for curve in panel.curves] == ["each window, paid", "paid"]
    assert panel.curves[1].xs == [9.0, 18.0, 27.0] and panel.curves[1].ys == [2.0, 1.5, 1.0 + 1 / 3]


def test_several_runs_in_one_panel(written):
    runs = [read_metrics(written("one", PRETRAIN)), read_metrics(written("two", STREAM))]
    bpb, loss = choose_panels(runs, "steps", ["bpb", "loss"])
    assert [(curve.run, curve.label) for curve in bpb.curves] == [
        (1, "two: each window, paid"),
        (1, "two: paid"),
    ]
    assert bpb.absent == [runs[0].path]
    assert [curve.label for curve in loss.curves] == ["one"] and loss.absent == [runs[1].path]


def test_runs_of_the_same_name_are_labeled_by_path(written, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    runs = [read_metrics(written(name, PRETRAIN)) for name in ("a/run", "b/run")]
    (loss,) = choose_panels(runs, "steps", ["loss"])
    assert [curve.label for curve in loss.curves] == [str(run.path) for run in runs]


def test_an_unknown_column_lists_the_columns(written):
    run = read_metrics(written("run", PRETRAIN[:1]))
    with pytest.raises(UsageError, match="no line has a column 'los': there are step, loss, lr, tokens, sec"):
        choose_panels([run], "steps", ["loss", "los"])


def test_a_missing_axis_lists_the_axes(written):
    run = read_metrics(written("run", PRETRAIN))
    with pytest.raises(UsageError, match="no 'bytes' to draw along: give --x as one of steps, tokens, sec"):
        choose_panels([run], "bytes")
    other = read_metrics(written("other", [{"loss": 1}]))
    with pytest.raises(UsageError, match="no 'step' to draw along: it does not hold the metrics of a run"):
        choose_panels([other], "steps")


def test_without_a_usual_column_it_asks_for_y(written):
    run = read_metrics(written("run", [{"step": 1, "speed": 2}]))
    with pytest.raises(UsageError, match="no loss or bits per byte: choose with --y among step, speed"):
        choose_panels([run], "steps")


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"no 'metrics\.jsonl' in .*give the folder of a run"):
        read_metrics(tmp_path)
    with pytest.raises(UsageError, match="no metrics at .*nowhere"):
        read_metrics(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "\n", "hello\n", "[1, 2]\n", "{}\n", '{"a": "b"}\n', '{"step": 1', "\x00"]
)
def test_a_file_without_numbers(tmp_path, text):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(DataError, match="has no line with numbers"):
        read_metrics(tmp_path / "m.jsonl")


@pytest.mark.parametrize("width", [1, 2, 3, 50])
def test_the_moving_mean_is_the_mean_of_the_last_values(width):
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
    slow = [sum(part) / len(part) for i in range(7) for part in [values[max(i + 1 - width, 0) : i + 1]]]
    assert moving_mean(values, width) == pytest.approx(slow)
    assert moving_mean([], width) == []


def test_an_outlier_affects_only_means_that_contain_it():
    assert moving_mean([1e300, 1.0, 2.0, 4.0], 2)[2:] == [1.5, 3.0]
