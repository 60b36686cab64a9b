"""`sttx info`: information in texts. Connects texts to the measures of `sttx_train.information`."""

import functools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sttx_cli.archives import STREAM, prepare_coding
from sttx_cli.commands import compress as compressing
from sttx_cli.loading import load, prepared
from sttx_cli.measures import (
    cost_row,
    cost_table,
    distance_table,
    finite,
    joint_row,
    mutual_row,
    rate_row,
    segment_rows,
    segment_table,
)
from sttx_cli.named_texts import NamedText, read_texts
from sttx_cli.options import Name, SuggestingGroup
from sttx_cli.output import count, emit_json, emit_line, emit_table, number
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redact_options
from sttx_cli.runs import (
    Decorated,
    check_model,
    learned_options,
    model_option,
    named_learned,
    without_pointer,
)
from sttx_cli.sources import SOURCES, from_option
from sttx_cli.threads import threads_option
from sttx_core.errors import UsageError
from sttx_train.formats import EMBEDDED

if TYPE_CHECKING:
    from sttx_train.information import Meter

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_OF_COMPRESS = (
    *("level", "method", "model", "checkpoint", "streams", "profile", "policy"),
    *("coder", "segment_mb"),
)


@click.group("info", cls=SuggestingGroup)
def command() -> None:
    """Measure information in texts, in bits by the predictor.

    TEXT is a file, whose bytes are read as they are; a folder, for each file below it; or - for standard
    input. --from SOURCE adds the documents of coding agents' sessions, rendered and redacted.

    The predictor adapts to what it reads, so the same bytes cost less the second time. Nothing is kept of it.
    """


class _Run(NamedTuple):
    """The texts, and who measures them."""

    texts: list[NamedText]
    meter: "Meter"
    as_json: bool

    @property
    def names(self) -> list[str]:
        return [text.name for text in self.texts]

    @property
    def size(self) -> int:
        return sum(len(text.data) for text in self.texts)


def _measure(
    name: str, least: int, most: int | None, check: Callable[[Sequence[NamedText]], object] = len
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a measure; it gets a `_Run` and its own options.

    Args:
        name: Of the command.
        least: How many texts it needs.
        most: How many it takes at most; None if there is no limit.
        check: Refuses texts, before a model is loaded.
    """

    def decorate(measure: Callable[..., None]) -> click.Command:
        @functools.wraps(measure)
        def run(
            arguments: tuple[str, ...],
            from_sources: tuple[str, ...],
            checkpoint: str | None,
            state: Path | None,
            model: str | None,
            experts: str,
            threads: int,
            no_redact: bool,
            redact_rules: Path | None,
            as_json: bool,
            **own: Any,
        ) -> None:
            learned = named_learned(checkpoint, state)
            check_model(model, EMBEDDED)
            texts = read_texts(arguments, from_sources, no_redact=no_redact, redact_rules=redact_rules)
            _check_count(name, len(texts), least, most)
            check(texts)
            meter = _meter(model, learned, experts=experts == "on", threads=threads)
            measure(_Run(texts, meter, as_json), **own)

        return command.command(name)(_shared(run))

    return decorate


def _shared(function: Decorated) -> Decorated:
    """Add what all measures take."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        redact_options,
        threads_option,
        click.option(
            "--experts",
            type=click.Choice(["on", "off"]),
            default="on",
            show_default=True,
            help="Measure with experts, which remember what was read word for word, or by the network alone.",
        ),
        model_option,
        learned_options("Measure"),
        from_option(f"Documents to measure, after TEXT: {SOURCES}. May be repeated; they are redacted."),
        click.argument("arguments", nargs=-1, type=Name(), metavar="[TEXT]..."),
    ):
        function = decorate(function)
    return function


def _check_count(name: str, texts: int, least: int, most: int | None) -> None:
    """Check how many texts were named.

    Raises:
        UsageError: Too few or too many were.
    """
    if texts < least or (most is not None and texts > most):
        wanted = count(least, "text") if most == least else f"at least {count(least, 'text')}"
        raise UsageError(f"`sttx info {name}` measures {wanted}, not {texts:,}: name files or --from SOURCE")


def _meter(model: str | None, learned: str | None, *, experts: bool, threads: int) -> "Meter":
    with progress_bar("loading PyTorch"):
        from sttx_train import Predictor
        from sttx_train.information import Meter
    loaded = load(model)
    return prepared(
        loaded,
        lambda loaded: Meter(Predictor(loaded, learned, experts=experts)),
        threads=threads,
        experts=experts,
    )


def _segments_option(name: str, default: int | None, help: str) -> Callable[[Decorated], Decorated]:
    shown = default is not None
    return click.option(
        name,
        "size",
        type=click.IntRange(min=1),
        default=default,
        show_default=shown,
        metavar="BYTES",
        help=help,
    )


@_measure("entropy", 1, None)
@_segments_option("--segments", None, "Add statistics of consecutive segments of so many bytes.")
def entropy(run: _Run, size: int | None) -> None:
    """Measure what each TEXT costs by itself.

    The cross-entropy of the text and the predictor: the sum of -log2 p over its tokens. Each text is measured
    from the same state, that of the checkpoint or of a document's start.
    """
    from sttx_train.information import Cost, cross_entropy

    with progress_bar("measuring", run.size, "bytes") as advance:
        costs = [cross_entropy(run.meter, text.data, advance) for text in run.texts]
    rows = _rows(run, costs)
    if size is not None:
        for row, cost in zip(rows, costs, strict=True):
            row["segments"] = segment_rows(cost.segments(size))
    total = cost_row(Cost.join(costs))
    if run.as_json:
        emit_json({"texts": rows, **total})
        return
    emit_table(f"bits of {count(len(rows), 'text')}, each by itself", _with_total(rows, total))
    for row in rows if size is not None else ():
        emit_line("")
        emit_table(row["text"], segment_table(row["segments"]))


@_measure("conditional", 2, None)
def conditional(run: _Run) -> None:
    """Measure what each TEXT costs after those before it.

    The conditional entropies H(x), H(y | x), H(z | x, y); together they are the entropy of the chain, H(x, y,
    z). A token ends where a text ends.
    """
    from sttx_train.information import Cost, chain

    with progress_bar("measuring", run.size, "bytes") as advance:
        costs = chain(run.meter, [text.data for text in run.texts], advance)
    rows, total = _rows(run, costs), cost_row(Cost.join(costs))
    if run.as_json:
        emit_json({"texts": rows, **total})
        return
    emit_table("bits of each text after those before it", _with_total(rows, total))


def _lines(text: NamedText) -> list[bytes]:
    return _LINE.findall(text.data)


def _check_aligned(texts: Sequence[NamedText]) -> None:
    """Check that two texts have as many lines.

    Raises:
        UsageError: They do not.
    """
    first, second = (len(_lines(text)) for text in texts)
    if first != second:
        raise UsageError(
            f"{texts[0].name!r} has {count(first, 'line')} and {texts[1].name!r} {second:,}: each line of "
            "one must belong to a line of the other"
        )


@_measure("joint", 2, 2, _check_aligned)
def joint(run: _Run) -> None:
    """Measure what two TEXTs cost together, line by line.

    Line i of one belongs to line i of the other: they are read as x1 y1 x2 y2. What they share is H(x) + H(y)
    - H(x, y).
    """
    from sttx_train.information import joint_entropy

    first, second = map(_lines, run.texts)
    with progress_bar("measuring", 2 * run.size, "bytes") as advance:
        result = joint_entropy(run.meter, first, second, advance)
    row = joint_row(result, run.names)
    if run.as_json:
        emit_json(row)
        return
    emit_table(
        "bits of each text alone, and its share of both line by line",
        cost_table(row["texts"], [("joint_bits", "share")]),
    )
    emit_line(f"together: {_bits(row['bits'])}, {number(row['bits_per_byte'])} bits per byte")
    emit_line(f"shared: {_bits(row['shared_bits'])}")


@_measure("mutual", 2, 2)
def mutual(run: _Run) -> None:
    """Measure what two TEXTs say about each other.

    The mean of H(y) - H(y | x) and H(x) - H(x | y): equal for true entropies, not for a predictor that
    adapts. Both are printed, and how far they are apart. An estimate may be below 0.
    """
    from sttx_train.information import mutual_information

    first, second = run.texts
    with progress_bar("measuring", 2 * run.size, "bytes") as advance:
        result = mutual_information(run.meter, first.data, second.data, advance)
    row = mutual_row(result, run.names)
    if run.as_json:
        emit_json(row)
        return
    emit_table(
        "bits of each text alone, and after the other",
        cost_table(row["texts"], [("after_other_bits", "after the other")]),
    )
    emit_line(f"the first says about the second: {_bits(row['first_about_second_bits'])}")
    emit_line(f"the second says about the first: {_bits(row['second_about_first_bits'])}")
    emit_line(f"mutual information, their mean: {_bits(row['bits'])}")


@_measure("distance", 2, None)
def distance(run: _Run) -> None:
    """Measure how different TEXTs are: near 0 if alike, near 1 if unrelated.

    The normalised compression distance (C(xy) - min(C(x), C(y))) / max(C(x), C(y)) of each pair, where C is
    the code length by the predictor; the mean of both orders. The diagonal compares each text with itself.
    """
    from sttx_train.information import distances

    with progress_bar("measuring", run.size * (len(run.texts) + 1), "bytes") as advance:
        result = distances(run.meter, [text.data for text in run.texts], advance)
    matrices = {"distance": result.distance_NN, "ordered": result.ordered_NN}
    lists = {name: [list(map(finite, row)) for row in matrix.tolist()] for name, matrix in matrices.items()}
    if run.as_json:
        emit_json({"texts": _rows(run, result.costs), **lists})
        return
    emit_table("normalised compression distance", distance_table(run.names, lists["distance"]))


@_measure("rate", 1, 1)
@_segments_option("--window", 1024, "Bytes of a window of the curve.")
def rate(run: _Run, size: int) -> None:
    """Measure the entropy rate of a TEXT, and its curve.

    Bits per byte of consecutive windows. The rate is that of the last half of the windows, when the predictor
    has adapted; the mean is that of the whole text.
    """
    from sttx_train.information import entropy_rate

    (text,) = run.texts
    with progress_bar("measuring", run.size, "bytes") as advance:
        result = entropy_rate(run.meter, text.data, size, advance)
    row = rate_row(result)
    if run.as_json:
        emit_json({"text": text.name, **row})
        return
    emit_table(f"{text.name}: windows of {size:,} bytes", segment_table(row["windows"]))
    last = count(row["settled"], "window")
    emit_line(f"entropy rate: {number(row['bits_per_byte'])} bits per byte, of the last {last}")
    emit_line(f"mean: {number(row['mean_bits_per_byte'])} bits per byte")


@command.command("size", params=[p for p in compressing.command.params if p.name in _OF_COMPRESS])
@click.argument("files", nargs=-1, required=True, type=Name(), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: sizes and ratio.")
def size(
    files: tuple[str, ...],
    level: str,
    method: str | None,
    model: str | None,
    checkpoint: str | None,
    streams: int | None,
    profile: str,
    policy: str | None,
    coder: str,
    segment_mb: float,
    as_json: bool,
) -> None:
    """Measure how large an archive of FILEs would be, without writing it.

    The same number of bytes as `sttx compress` writes with the same options. FILE is a file, a folder or -
    for standard input.
    """
    from sttx_train.coding import CompressConfig, members_of, method_of
    from sttx_train.information import compress_size

    learned = None if checkpoint is None else without_pointer(checkpoint)
    how = {"method": method, "model": model, "checkpoint": learned, "profile": profile, "policy": policy}
    chosen = method_of(level, streams=streams, **how)
    members, total, _ = members_of(files)
    prepare_coding(chosen.profile if chosen.networks else None)
    config = CompressConfig(coder=coder, segment_mb=segment_mb)
    stdin = sys.stdin.buffer if STREAM in files else None
    with progress_bar("measuring", total, "bytes") as advance:
        done = compress_size(members, config, method=chosen, stdin=stdin, advance=advance)
    ratio = done.bytes_out / done.bytes_in if done.bytes_in else None
    if as_json:
        row = {name: getattr(done, name) for name in ("bytes_in", "bytes_out", "files", "method", "profile")}
        emit_json({**row, "ratio": ratio, "bpb": None if ratio is None else 8 * ratio})
        return
    paid = "" if ratio is None else f", {8 * ratio:.3f} bits per byte"
    sizes = f"{done.bytes_in:,} bytes in, {done.bytes_out:,} bytes out"
    emit_line(f"{count(done.files, 'file')}, {sizes}{paid}")


def _rows(run: _Run, costs: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"text": name, **cost_row(cost)} for name, cost in zip(run.names, costs, strict=True)]


def _with_total(rows: list[dict[str, Any]], total: dict[str, Any]) -> Any:
    more = [("network_bits", "network alone")]
    return cost_table([*rows, {"text": "(total)", **total}] if len(rows) > 1 else rows, more)


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} bits"
