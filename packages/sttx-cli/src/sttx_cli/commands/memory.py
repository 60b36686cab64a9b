"""`sttx memory`: memories of many states, and the experiment behind them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from sttx_cli.memory_adapter import compare, export, inspect, materialize
from sttx_cli.memory_chat import chat
from sttx_cli.memory_serve import prompts, serve
from sttx_cli.memory_training import evaluate, train
from sttx_cli.options import PathName, SuggestingGroup
from sttx_cli.output import count, emit_json, emit_text
from sttx_cli.places import check_writable
from sttx_cli.progress import progress_bar
from sttx_core.own_files import refuse_unless_own, write_own

_SEEDS = 5  # of the original
_TRIALS, _SUMMARY, _REPORT, _PLOT = "trials.jsonl", "summary.json", "report.md", "plot.svg"


@click.group("memory", cls=SuggestingGroup)
def command() -> None:
    """Test memories of many states.

    One recurrent state forgets. Many states, each for a block of the stream, may remember more.
    """


@command.command("reproduce")
@click.option(
    "--seeds",
    type=click.IntRange(min=_SEEDS),
    default=_SEEDS,
    show_default=True,
    metavar="N",
    help="Sequences of each setting. The first five are compared with the original. With more, what it "
    "leaves out is measured too; 200 take some minutes.",
)
@click.option(
    "--out",
    type=PathName(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Writes report.md, plot.svg, summary.json and trials.jsonl (one trial a line) into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
@click.pass_context
def reproduce(context: click.Context, seeds: int, out: Path | None, as_json: bool) -> None:
    """Run the experiment on blocks and states.

    Keys and values are read back from states: one for the whole sequence, or one for each block that a policy
    cuts. The experiment is run again without torch, and its 110 rows are compared with those of the original.
    The exit code is 0 if all are within 1e-6, else 1.
    """
    from sttx_core.memory import ReproduceConfig, render
    from sttx_core.memory import reproduce as run

    if out is not None:
        check_writable(out, "--out")
        for name in (_TRIALS, _SUMMARY, _REPORT, _PLOT):
            refuse_unless_own(out / name)
    config = ReproduceConfig(seeds=seeds)
    with progress_bar("reproducing", config.steps, "steps") as progress:
        result = run(config, progress)
    if out is not None:
        _write(out, result.trials, result.summary, render(result.summary))
    names = ("reproduced", "rows", "largest_difference", "tolerance", "seeds")
    short = {name: result.summary[name] for name in names} | {"out": None if out is None else str(out)}
    if as_json:
        emit_json(short)
    emit_text(_sentences(short, result.summary["verdicts"]), err=as_json)
    context.exit(0 if result.summary["reproduced"] else 1)


def _write(
    folder: Path, trials: Iterable[Mapping[str, Any]], summary: Mapping[str, Any], report: str
) -> None:
    """Write the four files.

    Raises:
        OSError: one cannot be written.
    """
    from sttx_cli.memory_plot import draw

    folder.mkdir(parents=True, exist_ok=True)
    write_own(folder / _TRIALS, "".join(f"{json.dumps(trial)}\n" for trial in trials).encode())
    write_own(folder / _SUMMARY, f"{json.dumps(summary, indent=1)}\n".encode())
    write_own(folder / _REPORT, report.encode())
    write_own(folder / _PLOT, draw(summary).encode())


def _sentences(short: Mapping[str, Any], verdicts: Mapping[str, bool]) -> str:
    difference = short["largest_difference"]
    off = (
        "their names or order differ" if difference is None else f"the largest difference is {difference:.1e}"
    )
    what = "Reproduced" if short["reproduced"] else "Not reproduced"
    lines = [f"{what}: {count(short['rows'], 'row')} were compared; {off}."]
    lines += [f"- {text}: {'yes' if holds else 'no'}" for text, holds in verdicts.items()]
    if short["out"] is not None:
        lines.append(f"Written: {_REPORT}, {_PLOT}, {_SUMMARY} and {_TRIALS} in {short['out']}.")
    return "\n".join(lines)


for one in (train, evaluate, chat, export, inspect, materialize, compare, serve, prompts):
    command.add_command(one)
