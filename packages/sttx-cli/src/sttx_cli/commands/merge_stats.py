"""`sttx merge-stats`: the phrases that a run has found, and what they saved."""

import click
from rich.table import Table

from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, quoted
from sttx_cli.runs import checkpoint_option, named_run


@click.command("merge-stats")
@click.argument("path", type=Name(), required=False)
@checkpoint_option
@click.option("--top", type=int, default=None, help="Show only the phrases that saved most; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: str | None, checkpoint: str | None, top: int | None, as_json: bool) -> None:
    """Show the phrases that a run has found.

    PATH is the folder of a run or of one checkpoint, or RUN/latest; --checkpoint PATH means the same. The
    model reads a phrase at one position: a phrase of n tokens saves n - 1 positions each time it is used. The
    totals count only the steps at which the model used phrases.
    """
    from sttx_ccsniff import check_cursor
    from sttx_train.inspect import merge_stats

    report = merge_stats(named_run(path, checkpoint), top=top, check_cursor=check_cursor)
    if as_json:
        emit_json(report)
        return
    totals = report["totals"]
    title = (
        f"{report['checkpoint']}: {totals['live']:,} phrases live, {totals['promotions']:,} found, "
        f"{totals['evictions']:,} evicted; {totals['steps_saved']:,} of {report['tokens']:,} positions saved"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("positions saved", "uses", "length"):
        table.add_column(name, justify="right")
    table.add_column("phrase", overflow="fold")
    for row in report["phrases"]:
        numbers = (f"{row['steps_saved']:,}", f"{row['uses']:,}", str(row["length"]))
        table.add_row(*numbers, quoted(row["text"]))
    emit_table(title, table)
