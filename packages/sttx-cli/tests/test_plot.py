"""`sttx plot`: curves as a picture. Tests read the data back from the figure, not from its pixels."""

import contextlib
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import matplotlib
import pytest
from matplotlib.image import imread

from sttx_cli.curves import choose_panels, moving_mean, read_metrics, title_of
from sttx_cli.plotting import draw, write

LINES = [
    {"step": step, "loss": 6.0 / step, "lr": 0.01, "tokens": 8 * step, "seconds": 0.1 * step}
    | ({"validation_bpb": 3.0 / step} if step % 50 == 0 else {})
    for step in range(1, 301)
]


@pytest.fixture
def metrics(tmp_path) -> Path:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def figure(*paths, names=(), axis="steps", smooth=None):
    return draw(choose_panels([read_metrics(path) for path in paths], axis, names), axis, smooth=smooth)


def drawn(axes):
    """Return the bold lines of a panel: the curves without their pale points."""
    return [line for line in axes.lines if line.get_linewidth() > 1]


def test_png_and_svg_are_pictures(sttx, metrics, tmp_path):
    assert sttx("plot", metrics, "--out", tmp_path / "c.png").out == f"{tmp_path / 'c.png'}\n"
    assert imread(tmp_path / "c.png").ndim == 3
    assert sttx("plot", metrics, "--out", tmp_path / "C.SVG").code == 0
    assert xml.parse(tmp_path / "C.SVG").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["C.SVG", "c.png", "long.jsonl"]


@pytest.mark.parametrize("way", ["RUN", "--checkpoint RUN/latest", "RUN/step-00000008", "--checkpoint RUN"])
def test_without_out_it_is_a_png_in_the_runs_folder(sttx, finished, tmp_path, monkeypatch, way):
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    result = sttx("plot", *way.replace("RUN", "run").split())
    assert (result.code, result.out) == (0, f"{tmp_path / 'run' / 'curves.png'}\n"), result.err
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "curves.png").stat().st_mode & 0o777 == 0o600


def test_averages_are_bold_and_single_windows_pale(finished):
    (bpb,) = figure(finished, names=["bpb"]).axes
    looks = {line.get_label(): (line.get_linewidth(), line.get_alpha()) for line in bpb.lines}
    assert list(looks) == [
        *(f"each window, {name}" for name in ("paid", "network", "frozen")),
        "paid",
        "network",
        "frozen",
    ]
    assert all(width > 2 and alpha is None for width, alpha in list(looks.values())[3:])
    assert all(width < 1 and alpha < 0.5 for width, alpha in list(looks.values())[:3])


def test_a_few_extreme_windows_do_not_flatten_the_curves(tmp_path):
    lines = [{"step": step, "bpb": {"now": 2.0, "paid": 2.0}} for step in range(1, 500)]
    lines[100]["bpb"]["now"] = 900.0
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert figure(tmp_path / "m.jsonl", names=["bpb"]).axes[0].get_ylim()[1] < 3


def test_the_title_names_the_run_or_is_given(sttx, metrics, tmp_path):
    runs = [read_metrics(metrics)]
    assert title_of(runs) == "long: 300 steps"
    assert draw(choose_panels(runs, "steps"), "steps", title="$a").get_suptitle() == "\\$a"
    assert sttx("plot", metrics, "--title", "Mine", "--out", tmp_path / "c.svg").code == 0


def test_a_run_of_training_is_drawn(sttx, finished, tmp_path):
    result = sttx(
        "plot", finished, "--out", tmp_path / "c.svg", "--x", "bytes", "--y", "bpb", "--y", "replay"
    )
    assert (result.code, result.err) == (0, "")
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    bpb, replay = figure(finished, names=["bpb", "replay"], axis="bytes", smooth=1).axes
    (paid,) = [line for line in bpb.lines if line.get_label() == "paid"]
    assert list(paid.get_xdata()) == [line["bytes"] for line in lines]
    assert list(paid.get_ydata()) == [line["bpb"]["paid"] for line in lines]
    assert [text.get_text() for text in bpb.get_legend().get_texts()] == [
        "paid",
        "network",
        "frozen",
        "each window, paid",
        "each window, network",
        "each window, frozen",
    ]
    assert list(replay.lines[0].get_ydata()) == [line["replay"] for line in lines]


def test_the_curves_have_the_files_numbers(metrics):
    loss, held, lr = figure(metrics, smooth=1).axes
    (line,) = loss.lines
    assert list(line.get_xdata()) == list(range(1, 301))
    assert list(line.get_ydata()) == [6.0 / step for step in range(1, 301)]
    assert list(held.lines[0].get_xdata()) == [50, 100, 150, 200, 250, 300]
    assert held.lines[0].get_marker() == "." and line.get_marker() == ""
    assert [axes.get_ylabel() for axes in (loss, held, lr)] == [
        "loss (nats per token)",
        "validation: bits per byte",
        "learning rate",
    ]
    assert {axes.get_xlabel() for axes in (loss, held, lr)} == {"steps"}


@pytest.mark.parametrize(("asked", "width"), [(None, 3), (7, 7), (10_000, 10_000)])
def test_a_mean_is_drawn_over_the_points(metrics, asked, width):
    loss = figure(metrics, smooth=asked).axes[0]
    written = [line["loss"] for line in LINES]
    assert [list(line.get_ydata()) for line in loss.lines] == [written, moving_mean(written, width)]
    assert len(drawn(loss)) == 1


def test_two_runs_are_two_curves_and_a_legend(metrics, tmp_path):
    other = tmp_path / "short.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in LINES[:20]))
    for axes in figure(metrics, other, axis="tokens", names=["loss", "lr"]).axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["long", "short"]
        assert len({line.get_color() for line in drawn(axes)}) == 2
        assert list(drawn(axes)[1].get_xdata()) == [8 * step for step in range(1, 21)]


def test_one_curve_needs_no_legend(metrics):
    assert all(axes.get_legend() is None for axes in figure(metrics).axes)


@pytest.mark.parametrize("count", range(1, 9))
def test_any_number_of_panels_fits(metrics, tmp_path, count):
    path = tmp_path / "wide.jsonl"
    path.write_text(json.dumps({"step": 1} | {f"c{i}": i for i in range(count)}) + "\n")
    made = figure(path, names=[f"c{i}" for i in range(count)])
    write(made, tmp_path / "c.svg")
    boxes = [axes.get_position() for axes in made.axes]
    assert len(boxes) == count
    assert all(not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(boxes[0].width > box.width for box in boxes[1:])


def test_the_largest_numbers_are_drawn(sttx, tmp_path):
    lines = [{"step": step, "loss": loss} for step, loss in enumerate((-1.7e308, -1e300, 1e300, 1.7e308))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert sttx("plot", tmp_path, "--out", tmp_path / "c.svg").code == 0


@pytest.mark.parametrize("name", ["_run", "cost$a^$", "日本", "a--b"])
def test_unusual_names_are_drawn_literally(tmp_path, name):
    for folder in (name, "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2, name: 3}))
    made = figure(tmp_path / name, tmp_path / "other", names=["loss", name])
    assert len(made.axes[0].get_legend().get_texts()) == 2
    for kind in ("png", "svg"):
        write(made, tmp_path / f"c.{kind}")
    xml.parse(tmp_path / "c.svg")


def test_control_characters_are_drawn_as_escapes(tmp_path):
    evil = "\x1b]52;c\x07\x7f\u202e\udcff"
    for folder in (evil, "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2, evil: 3}))
    panels = choose_panels([read_metrics(tmp_path / folder) for folder in (evil, "other")], "steps")
    made = draw(panels, "steps", title=evil)
    assert made.get_suptitle() == "\\x1b]52;c\\x07\\x7f\\u202e\\udcff"
    write(made, tmp_path / "c.svg")
    xml.parse(tmp_path / "c.svg")


def test_the_same_metrics_give_the_same_picture(sttx, metrics, tmp_path):
    for name in ("a.png", "b.png"):
        sttx("plot", metrics, "--out", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_matplotlibs_global_state_is_unchanged(sttx, metrics, tmp_path):
    before = dict(matplotlib.rcParams)
    assert sttx("plot", metrics, "--out", tmp_path / "c.png").code == 0
    assert dict(matplotlib.rcParams) == before
    line = ["plot", str(metrics), "--out", str(tmp_path / "d.png")]
    code = (
        f"import sys; from sttx_cli import run; sys.exit(run({line!r}) or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_without_matplotlib_it_says_what_to_install(sttx, metrics, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "sttx_cli.plotting")
    result = sttx("plot", metrics, "--out", tmp_path / "c.png")
    assert (result.code, result.out) == (2, "")
    assert result.err == "sttx: drawing needs matplotlib: install it with pip install 'sttx-cli[plot]'\n"
    assert not (tmp_path / "c.png").exists()


def test_a_wrong_path_is_found_before_matplotlib_is_loaded(tmp_path):
    line = ["plot", str(tmp_path / "nowhere")]
    code = (
        f"import sys; from sttx_cli import run; code = run({line!r}); "
        "sys.exit('matplotlib loaded' if 'matplotlib' in sys.modules else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "no metrics at" in result.stderr


def test_loading_matplotlib_shows_progress(sttx, metrics, tmp_path, monkeypatch):
    titles: list[str] = []

    @contextlib.contextmanager
    def progress(title: str):
        assert "sttx_cli.plotting" not in sys.modules
        titles.append(title)
        yield

    monkeypatch.delitem(sys.modules, "sttx_cli.plotting")
    monkeypatch.setattr("sttx_cli.commands.plot.progress_bar", progress)
    assert sttx("plot", metrics, "--out", tmp_path / "c.png").code == 0
    assert titles == ["drawing"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "c.jpg"], 2, "'c.jpg' must end in '.png' or '.svg'"),
        (["--out", "no/such/c.png"], 2, "there is no folder 'no/such' for 'c.png': make it first"),
        (
            ["--y", "los"],
            2,
            "no line has a column 'los': there are step, loss, lr, tokens, seconds, validation",
        ),
        (["--x", "bytes"], 2, "has no 'bytes' to draw along: give --x as one of steps, tokens, seconds"),
        (["nowhere.jsonl"], 2, "no metrics at 'nowhere.jsonl': give the folder of a run"),
        (["empty.jsonl"], 1, "'empty.jsonl' has no line with numbers"),
    ],
)
def test_bad_input_is_one_sentence(sttx, metrics, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    result = sttx("plot", metrics, *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.err and len(result.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "long.jsonl"]


def test_skipped_lines_and_missing_columns_are_noted(sttx, metrics, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"step": 1, "loss": 2}\nnonsense\n{"step": 2, "loss": 1}\n')
    result = sttx("plot", metrics, other, "--out", tmp_path / "c.png")
    assert result.code == 0
    assert f"{other}: skipped 1 line: not a JSON object" in result.err
    assert f"{other}: it has no lr" in result.err and f"{other}: it has no validation_bpb" in result.err
