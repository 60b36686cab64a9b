"""`sttx vocab`: learns a vocabulary from text files."""

import time
from pathlib import Path

import click

from sttx_cli.options import PathName
from sttx_cli.output import count, emit_json, emit_line, note, say, skipped_files
from sttx_cli.places import check_writable
from sttx_cli.progress import progress_bar
from sttx_cli.sources import require_path
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import TrieTokenizer, create_vocab_file


@click.command("vocab")
@click.argument("texts", nargs=-1, required=True, type=PathName(path_type=Path), metavar="TEXT...")
@click.option(
    "--out", required=True, type=PathName(path_type=Path), metavar="FILE", help="The vocabulary file."
)
@click.option(
    "--size",
    required=True,
    type=int,
    metavar="N",
    help="Number of ids, including the end-of-text id; 257 is the bytes alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(texts: tuple[Path, ...], out: Path, size: int, as_json: bool) -> None:
    """Learn a vocabulary from text files.

    TEXT is a text file, JSON lines such as {"text": "…"}, or a folder of text files; files in a folder that
    are not UTF-8 text are skipped. The text is read twice, to learn the vocabulary and to measure its bytes
    per token. FILE is in RWKV's format; trie:FILE names it as a tokenizer.
    """
    from sttx_core.own_files import replacing_file
    from sttx_train.data import SMALLEST, bytes_per_token, find_texts, learn_tokens, read_pieces

    if size < SMALLEST:
        raise UsageError(f"--size {size} is too small: the 256 bytes and the end-of-text id need {SMALLEST}")
    for text in texts:
        require_path(text)
    _refuse_other_files(out)
    check_writable(out.parent, "the folder of --out,")
    started = time.monotonic()
    with progress_bar("looking for text files"):
        corpus = find_texts(texts, leave_out=out)
    skipped = f"; {skipped_files(corpus.skipped)}" if corpus.skipped else ""
    say(f"{count(len(corpus.files), 'text file')}, {corpus.size:,} bytes{skipped}")
    with progress_bar("reading", corpus.size, "bytes") as progress:
        tokens = learn_tokens(read_pieces(corpus, progress, say), size)
    with replacing_file(out) as aside:
        create_vocab_file(tokens, aside, add_bytes=False)
    tokenizer = TrieTokenizer(out)
    if tokenizer.vocab_size < size:
        note(f"the text gives {tokenizer.vocab_size:,} ids, not {size:,}: more text gives more")
    with progress_bar("measuring", corpus.size, "bytes") as progress:
        rate = bytes_per_token(tokenizer, read_pieces(corpus, progress))
    report = {
        "out": str(out),
        "size": tokenizer.vocab_size,
        "bytes_per_token": rate,
        "sha256": tokenizer.sha256,
        "files": len(corpus.files),
        "bytes": corpus.size,
        "skipped": len(corpus.skipped),
        "seconds": time.monotonic() - started,
    }
    if as_json:
        emit_json(report)
    else:
        ids = f"{tokenizer.vocab_size:,} ids"
        emit_line(f"{out}: {ids}, {rate:.3f} bytes per token on {corpus.size:,} bytes read")


def _refuse_other_files(out: Path) -> None:
    """Refuse to overwrite anything but an older vocabulary."""
    from sttx_core.own_files import refuse_to_replace

    refuse_to_replace(out)
    if not out.exists():
        return
    try:
        TrieTokenizer(out)
    except DataError:
        raise UsageError(f"{str(out)!r} exists and is not a vocabulary: give --out another path") from None
