"""`sttx data`: packs data to pretrain on into a pair of files, and shows what data holds."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import sttx_train.data  # its names load NumPy when they are used, so that help does not
from sttx_cli.options import Name, PathName, SuggestingGroup
from sttx_cli.output import (
    count,
    emit_json,
    emit_table,
    emit_text,
    facts,
    note,
    number,
    quoted,
    skipped_files,
)
from sttx_cli.places import check_writable
from sttx_cli.plain import plain
from sttx_cli.progress import progress_bar
from sttx_cli.redaction import redact_options, redaction_of_sessions
from sttx_cli.session_texts import SessionTexts, split_sessions
from sttx_cli.sources import SESSIONS_HELP, from_option, require_data
from sttx_cli.tokenizer import chosen_tokenizer, say_numbering, tokenizer_option
from sttx_core.errors import UsageError
from sttx_core.tokenizers import AnyTokenizer


@click.group("data", cls=SuggestingGroup)
def command() -> None:
    """Pack data to pretrain on, or show what it holds.

    Data are text files and folders of them (every file that is UTF-8 is one document), JSON lines ({"text":
    "..."}, or lists of whole numbers, bare or as {"values": [...]}) and JSON arrays of the same, NumPy's .npy
    arrays of whole numbers [sequences, length], pairs of .bin and .idx files as RWKV's and Megatron's
    trainers read them, and flat .bin files of ids. Numbers are values for a tokenizer of values, and ids for
    the vocabulary of a file. The content of a file decides its format, and its suffix where the content does
    not. Coding agents' sessions must be named *.jsonl, *.ndjson or opencode*.db, and may be compressed.
    """


@command.command("build")
@click.argument("data", nargs=-1, type=Name(), metavar="[DATA]...")
@from_option(SESSIONS_HELP)
@click.option(
    "--out",
    type=PathName(path_type=Path),
    required=True,
    metavar="PREFIX",
    help="Writes PREFIX.bin, PREFIX.idx and PREFIX.sttx.json. Existing files are never overwritten.",
)
@tokenizer_option("By default the vocabulary of the model that comes with sttx.")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def build(
    data: tuple[str, ...],
    from_sources: tuple[str, ...],
    out: Path,
    tokenizer: str | None,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Encode data into a pair of .bin and .idx files.

    DATA is anything that `sttx data` reads, also mixed. Coding agents' sessions are read too, after the rest:
    with --from, or as DATA (files and folders of sessions are detected; claude, codex and opencode are an
    agent's history, and ./claude is a file of that name). They are rendered as `sttx train` reads them, and
    redacted.

    Ids have 16 bits if the vocabulary fits, else 32. PREFIX.sttx.json records the vocabulary, so that the
    pair is never read with another one. A build that is killed leaves no pair.
    """
    require_data(data, from_sources)
    sttx_train.data.check_pair(out)
    paths, sessions = split_sessions(data)
    sessions += from_sources
    redact = redaction_of_sessions(sessions, no_redact, redact_rules)
    to_read = None if sessions else _bytes_to_read(paths)
    check_writable(out.parent, "the folder of --out,")
    started = time.monotonic()
    with progress_bar("loading the tokenizer"):
        chosen = chosen_tokenizer(tokenizer, paths)
        say_numbering(chosen)
    texts = SessionTexts(sessions, redact=redact, say=note) if sessions else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("reading", to_read, "bytes") as progress:
        counted = None if texts is None else _counted(texts, progress)
        opened = sttx_train.data.open_data(
            paths, chosen, texts=counted, say=note, progress=progress, folder=out.parent
        )
    ids = int(opened.documents.lengths.sum())
    with progress_bar("writing", ids, "ids") as progress:
        size, identity = chosen.vocab_size, sttx_train.data.vocabulary_identity(chosen)
        sttx_train.data.write_pair(
            opened.documents,
            out,
            vocab_size=size,
            identity=identity,
            eot_id=chosen.eot_id,
            progress=progress,
        )
    report = {
        "out": [str(path) for path in sttx_train.data.pair_paths(out)],
        **_counts(opened, chosen, sessions),
        "redacted": {} if texts is None else dict(texts.redacted),
        "seconds": time.monotonic() - started,
    }
    if opened.skipped:
        note(skipped_files(opened.skipped))
    emit_text(_summary(report), err=as_json)
    if as_json:
        emit_json(report)


@command.command("show")
@click.argument("path", type=Name(), metavar="PATH")
@tokenizer_option("By default ids are not decoded, and text is encoded by the model that comes with sttx.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(path: str, tokenizer: str | None, as_json: bool) -> None:
    """Show what a path of data holds.

    The number of documents and ids, the lengths, the size of the vocabulary that the ids need, and the first
    ids decoded. A pair may be named by either of its files, or by their common prefix.
    """
    require_data([path], [])
    if split_sessions([path])[1]:
        raise UsageError(f"{path!r} is an agent's sessions: `sttx traces` lists and shows them")
    file = Path(path)
    without = tokenizer is None and sttx_train.data.detect_format(file) not in sttx_train.data.ENCODED
    with progress_bar("reading"):
        chosen = None if without else chosen_tokenizer(tokenizer, [file])
        say_numbering(chosen)
        report = sttx_train.data.describe(file, chosen, say=note)
    if as_json:
        emit_json(report)
    else:
        emit_table(path, facts(_rows(report)))


def _rows(report: Mapping[str, Any]) -> dict[str, str]:
    """Lay out a description as a person reads it."""
    vocabulary, first = report["vocabulary"], report["first"]
    size = vocabulary["size"] or 0
    fit = {None: "", True: f"; fits {size:,}", False: f"; does not fit {size:,}"}
    rows = {"kind": report["kind"], "documents": f"{report['documents']:,}", "ids": f"{report['ids']:,}"}
    rows |= {"dtype of ids": report["dtype"]}
    lengths = {name: f"{report[name]:,.1f}".removesuffix(".0") for name in ("shortest", "median", "longest")}
    rows |= {f"{name} document": f"{length} ids" for name, length in lengths.items()}
    rows |= {"vocabulary": f"needs {vocabulary['needed']:,}{fit[vocabulary['fits']]}"}
    rows |= {"first ids": " ".join(map(str, first["ids"]))}
    match first["decoded"]:
        case str(text):
            rows["first text"] = plain(quoted(text))
        case list(values):
            rows["first values"] = " ".join(map(str, values))
        case _:
            rows["first text"] = "not decoded: give --tokenizer" if vocabulary["fits"] is None else "-"
    rows["bytes per token"] = number(report["bytes_per_token"])
    return rows


def _counts(data: "sttx_train.data.Data", tokenizer: AnyTokenizer, sessions: Sequence[str]) -> dict[str, Any]:
    ids = int(data.documents.lengths.sum())
    return {
        "documents": len(data.documents.lengths),
        "ids": ids,
        "dtype": sttx_train.data.ids_dtype(tokenizer.vocab_size).name,
        "text_bytes": data.text_bytes,
        "bytes_per_token": None if data.text_bytes is None else data.text_bytes / ids,
        "kinds": {str(path): kind for path, kind in data.kinds.items()} | dict.fromkeys(sessions, "sessions"),
        "skipped": len(data.skipped),
        "damaged": data.damaged,
    }


def _bytes_to_read(paths: Sequence[Path]) -> int:
    """Return the size of all data that must be encoded; data that is memory-mapped takes no time."""
    files = [
        file
        for path in paths
        if sttx_train.data.detect_format(path) in sttx_train.data.ENCODED
        for file in (path.rglob("*") if path.is_dir() else [path])
    ]
    return sum(file.stat().st_size for file in files if file.is_file())


def _counted(texts: Iterable[str], progress: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        progress(len(text))
        yield text


def _summary(report: Mapping[str, Any]) -> str:
    rate = report["bytes_per_token"]
    text = f"{count(report['documents'], 'document')}, {count(report['ids'], 'id')} ({report['dtype']})"
    if rate is not None:
        text += f", {report['text_bytes']:,} bytes of text ({number(rate)} per token)"
    return f"{text}.\nWritten: {' and '.join(report['out'])}."
