"""`sttx merge-stats`: the phrases that a run has found, and what they saved."""

import click
from rich.table import Table
from rich.text import Text

from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, quoted


@click.command("merge-stats")
@click.argument("checkpoint_dir", type=Name())
@click.option("--top", type=int, default=None, help="Only the phrases that saved most; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(checkpoint_dir: str, top: int | None, as_json: bool) -> None:
    """Show the phrases that a run has found.

    CHECKPOINT_DIR is the folder of a run, or of one step in it. What a phrase saved is its uses times its
    length less one. The totals are what the model saved, which is less where phrases were off for a while.
    """
    from sttx_train.inspect import merge_stats

    told = merge_stats(checkpoint_dir, top=top)
    if as_json:
        emit_json(told)
        return
    totals = told["totals"]
    title = (
        f"{told['checkpoint']}: {totals['live']:,} phrases live, {totals['promotions']:,} found, "
        f"{totals['evictions']:,} evicted; {totals['steps_saved']:,} of {told['tokens']:,} steps saved"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("steps saved", "uses", "length"):
        table.add_column(name, justify="right")
    table.add_column("phrase", overflow="fold")
    for row in told["phrases"]:
        text = Text(quoted(row["text"]))
        table.add_row(f"{row['steps_saved']:,}", f"{row['uses']:,}", str(row["length"]), text)
    emit_table(title, table)
