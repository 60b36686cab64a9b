"""Options follow their config: names, types, defaults, help and validation."""

from dataclasses import dataclass
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from sttx_cli.options import CommaList, Grouped, attribute_docs, build, config_options, help_text
from sttx_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a thing.

    Attributes:
        rows, columns: how large it is; one text
            for both.
        rate: share of ``rows``: 0 to 1.
        kind: what it is.
        loud: say so.
        tags: words of it.
        name: what it is called.
    """

    rows: int = 3
    columns: int = 4
    rate: float = 0.5
    kind: Literal["flat", "deep"] = "flat"
    loud: bool = False
    tags: tuple[str, ...] = ("a", "b")
    name: str = "x"

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError(f"--rows must be at least 1, not {self.rows!r}")


def split(text: str) -> tuple[str, ...]:
    if not text:
        raise UsageError("no tag")
    return tuple(text.split(","))


def invoke(*arguments: str, prefix: str = "", skip: tuple[str, ...] = (), defaults: Sizes | None = None):
    """Run a command that has the config's options; return the config, and the result."""
    configs = []

    @click.command
    @config_options(Sizes, prefix=prefix, skip=skip, defaults=defaults, types={"tags": CommaList(split)})
    def command(**options):
        configs.append(build(Sizes, options, prefix=prefix, **dict.fromkeys(skip, 9)))
        assert options == {}, "build takes what it uses"

    result = CliRunner().invoke(command, list(arguments))
    return (configs[0] if configs else None), result


def test_defaults_are_the_configs():
    assert invoke()[0] == Sizes()


def test_a_command_may_have_defaults_of_its_own():
    assert invoke("--columns", "5", defaults=Sizes(rows=8))[0] == Sizes(rows=8, columns=5)
    assert "[default: 8]" in invoke("--help", defaults=Sizes(rows=8))[1].output


def test_every_field_can_be_given():
    line = ["--rows", "7", "--columns", "8", "--rate", "0.25", "--kind", "deep"]
    line += ["--loud", "--tags", "c,d", "--name", "y"]
    wanted = Sizes(rows=7, columns=8, rate=0.25, kind="deep", loud=True, tags=("c", "d"), name="y")
    assert invoke(*line)[0] == wanted
    assert invoke("--no-loud")[0] == Sizes()


def test_a_prefix_leads_every_name():
    assert invoke("--thing-rows", "7", prefix="thing_")[0] == Sizes(rows=7)
    assert "No such option" in invoke("--rows", "7", prefix="thing_")[1].output


def test_a_skipped_field_is_not_an_option_and_is_set_by_the_caller():
    config, result = invoke("--columns", "5", skip=("rows",))
    assert (config.rows, config.columns) == (9, 5)
    assert invoke("--rows", "1", skip=("rows",))[1].exit_code == 2


@pytest.mark.parametrize(
    "line",
    [
        *(["--rows", "x"], ["--rate", "x"], ["--kind", "round"], ["--loud", "x"]),
        *(["--rate", "inf"], ["--rate", "-inf"]),
    ],
    ids=" ".join,
)
def test_a_wrong_value_exits_with_2(line):
    assert invoke(*line)[1].exit_code == 2


@pytest.mark.parametrize("line", [["--rows", "0"], ["--tags", ""]], ids=" ".join)
def test_a_value_that_the_config_refuses(line):
    assert isinstance(invoke(*line)[1].exception, UsageError)


def test_a_config_that_lets_nan_through_is_caught():
    assert "--rate must be a number, not nan" in str(invoke("--rate", "nan")[1].exception)


def test_help_is_the_docstring():
    text = " ".join(invoke("--help")[1].output.split())
    assert "--rate FLOAT Share of rows: 0 to 1. [default: 0.5]" in text
    assert "--tags LIST Words of it. [default: a,b]" in text
    assert "--kind [flat|deep] What it is. [default: flat]" in text
    assert text.count("How large it is; one text for both.") == 2


def test_docs_of_names_that_share_an_entry():
    docs = attribute_docs(Sizes)
    assert docs["rows"] == docs["columns"] == "how large it is; one text for both."
    assert list(docs) == ["rows", "columns", "rate", "kind", "loud", "tags", "name"]


def test_a_field_without_docs_is_a_bug():
    @dataclass(frozen=True)
    class Mute:
        """Says nothing."""

        rows: int = 1

    with pytest.raises(KeyError, match="rows"):
        config_options(Mute)(lambda **_: None)


def test_sentences():
    assert (help_text("seed of ``w0``."), help_text("S0."), help_text("")) == ("Seed of w0.", "S0.", "")


def test_a_grouped_command_lists_its_options_under_their_titles():
    @click.command(cls=Grouped)
    @config_options(Sizes, title="Sizes", skip=("tags",))
    @click.argument("data")
    @click.option("--json", help="Print it.")
    def command(**options):
        pass

    text = CliRunner().invoke(command, ["--help"]).output
    first, _, second = text.partition("\nSizes:\n")
    assert "\nOptions:\n  --json" in first and "--help" in first
    assert "--rows" in second and "--name" in second and "--json" not in second


@pytest.mark.parametrize(
    "line",
    [
        ["train", "--checkpoint-dir", ""],
        ["train", "--checkpoint-dir", "run", "--model", ""],
        ["train", "--checkpoint-dir", "run", "--from", ""],
        ["validate-data", ""],
        ["inspect", ""],
        ["merge-stats", ""],
        ["pretrain", "", "--out", "model", "--steps", "1"],
        ["pretrain", "text", "--out", "", "--steps", "1"],
    ],
    ids=" ".join,
)
def test_an_empty_name_is_refused_and_not_read_as_the_current_folder(sttx, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = sttx(*line)
    assert (result.code, result.out) == (2, "")
    assert "is empty; is a variable unset?" in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("pretrain", "--held-out", "--validation"),
        ("pretrain", "--phrases", "--phrase-prob"),
        ("train", "--sessions", "--max-documents"),
        ("train", "--phrase-window", "--phrase-pair-window"),
    ],
)
@pytest.mark.parametrize("form", ["{} 3", "{}=3"])
def test_an_old_option_names_the_new_one(sttx, command, old, new, form):
    result = sttx(command, *form.format(old).split())
    assert result.code == 2
    assert result.err.splitlines()[-1] == f"Error: no option {old}: it is {new} now"
