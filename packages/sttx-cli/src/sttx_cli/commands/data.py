"""`sttx data`: packs data to pretrain on into a pair of files, and says what a path of data holds."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sttx_cli.bar import progress_bar
from sttx_cli.options import Name, PathName
from sttx_cli.output import emit_json, emit_table, facts, number, quoted, say
from sttx_cli.plain import plain
from sttx_cli.redaction import redact_options, redaction_of_sessions
from sttx_cli.session_texts import SessionTexts, parted
from sttx_cli.tokenizer import chosen_tokenizer, tokenizer_option
from sttx_core.errors import UsageError
from sttx_train.data import (
    ENCODED,
    check_pair,
    describe,
    detect_format,
    ids_dtype,
    open_data,
    pair_paths,
    vocabulary_identity,
    write_pair,
)


@click.group("data")
def command() -> None:
    """Pack data to pretrain on, or show what it holds.

    Data are text files and folders of them (every file that is UTF-8 is one document), JSON lines ({"text":
    "..."}, or lists of whole numbers, bare or as {"values": [...]}), NumPy's .npy arrays of whole numbers
    [sequences, length], pairs of .bin and .idx files as RWKV's and Megatron's trainers read them, and flat
    .bin files of 16-bit ids. Which it is, is told by content.
    """


@command.command("build")
@click.argument("data", nargs=-1, required=True, type=Name(), metavar="DATA...")
@click.option(
    "--out",
    type=PathName(path_type=Path),
    required=True,
    metavar="PREFIX",
    help="PREFIX.bin, .idx and .sttx.json are written. Nothing is written over.",
)
@tokenizer_option("By default the vocabulary of the model that comes with sttx.")
@redact_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output at the end.")
def build(
    data: tuple[str, ...],
    out: Path,
    tokenizer: str | None,
    no_redact: bool,
    redact_rules: Path | None,
    as_json: bool,
) -> None:
    """Encode data into a pair of .bin and .idx files.

    DATA are of any kind that `sttx data` reads, also mixed. Coding agents' sessions are DATA too, and come
    last: their files, folders of them, and the words claude, codex and opencode (a file of that name is read
    as ./claude). They are rendered as `sttx train` reads them, and redacted.

    Ids have 16 bits where the vocabulary fits, else 32. PREFIX.sttx.json keeps which vocabulary it was, so
    that the pair is not read with another one. A build that is killed leaves no pair.
    """
    check_pair(out)
    paths, sessions = parted(data)
    redact = redaction_of_sessions(sessions, no_redact, redact_rules)
    to_read = None if sessions else _bytes_to_read(paths)
    chosen, began = chosen_tokenizer(tokenizer), time.monotonic()
    texts = SessionTexts(sessions, redact=redact, say=_note) if sessions else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("reading", to_read, "bytes") as progress:
        told = None if texts is None else _counted(texts, progress)
        opened = open_data(paths, chosen, texts=told, say=_note, progress=progress, folder=out.parent)
    ids = int(opened.documents.lengths.sum())
    with progress_bar("writing", ids, "ids") as progress:
        size, identity = chosen.vocab_size, vocabulary_identity(chosen)
        write_pair(opened.documents, out, vocab_size=size, identity=identity, progress=progress)
    report = {
        "out": [str(path) for path in pair_paths(out)],
        "documents": len(opened.documents.lengths),
        "ids": ids,
        "dtype": ids_dtype(chosen.vocab_size).name,
        "text_bytes": opened.text_bytes,
        "bytes_per_token": None if opened.text_bytes is None else opened.text_bytes / ids,
        "kinds": {str(path): kind for path, kind in opened.kinds.items()}
        | dict.fromkeys(sessions, "sessions"),
        "skipped": len(opened.skipped),
        "damaged": opened.damaged,
        "redacted": {} if texts is None else dict(texts.redacted),
        "seconds": time.monotonic() - began,
    }
    if opened.skipped:
        _note(f"left out as no text: {len(opened.skipped):,} files, such as {str(opened.skipped[0])!r}")
    click.echo(_summary(report), err=as_json)
    if as_json:
        emit_json(report)


@command.command("show")
@click.argument("path", type=Name(), metavar="PATH")
@tokenizer_option("By default ids are not decoded; text is encoded by the model's that comes with sttx.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(path: str, tokenizer: str | None, as_json: bool) -> None:
    """Show what a path of data holds.

    How many documents and ids, how long they are, which vocabulary the ids need, and what the first ones
    stand for. A pair may be named by either file, or by what their names share.
    """
    if parted([path])[1]:
        raise UsageError(f"{path!r} is an agent's sessions: `sttx traces` lists and shows them")
    file = Path(path)
    default = tokenizer is None and detect_format(file) not in ENCODED
    told = describe(file, None if default else chosen_tokenizer(tokenizer), say=_note)
    if as_json:
        emit_json(told)
    else:
        emit_table(path, facts(_rows(told)))


def _rows(told: Mapping[str, Any]) -> dict[str, str]:
    """Write a description as a person reads it."""
    vocabulary, first = told["vocabulary"], told["first"]
    size = vocabulary["size"] or 0
    fit = {None: "", True: f"; fits {size:,}", False: f"; does not fit {size:,}"}
    rows = {"kind": told["kind"], "documents": f"{told['documents']:,}", "ids": f"{told['ids']:,}"}
    rows |= {"type of ids": told["dtype"]}
    lengths = {name: f"{told[name]:,.1f}".removesuffix(".0") for name in ("shortest", "median", "longest")}
    rows |= {f"{name} document": f"{length} ids" for name, length in lengths.items()}
    rows |= {"vocabulary": f"needs {vocabulary['needed']:,}{fit[vocabulary['fits']]}"}
    rows |= {"first ids": " ".join(map(str, first["ids"]))}
    match first["decoded"]:
        case str(text):
            rows["first text"] = plain(quoted(text))
        case list(values):
            rows["first values"] = " ".join(map(str, values))
        case _:
            rows["first text"] = "not decoded: give --tokenizer" if fit[vocabulary["fits"]] == "" else "-"
    rows["bytes a token"] = number(told["bytes_per_token"])
    return rows


def _bytes_to_read(paths: Sequence[Path]) -> int:
    """Add up the sizes of all that has to be encoded; what is mapped takes no time."""
    files = [
        file
        for path in paths
        if detect_format(path) in ENCODED
        for file in (path.rglob("*") if path.is_dir() else [path])
    ]
    return sum(file.stat().st_size for file in files if file.is_file())


def _counted(texts: Iterable[str], progress: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        progress(len(text))
        yield text


def _note(text: str) -> None:
    say(f"note: {text}")


def _summary(report: Mapping[str, Any]) -> str:
    rate = report["bytes_per_token"]
    documents = f"{report['documents']:,} document{'' if report['documents'] == 1 else 's'}"
    told = f"{documents}, {report['ids']:,} ids ({report['dtype']})"
    if rate is not None:
        told += f", {report['text_bytes']:,} bytes of text ({number(rate)} a token)"
    return f"{told}.\nWritten: {' and '.join(report['out'])}."
