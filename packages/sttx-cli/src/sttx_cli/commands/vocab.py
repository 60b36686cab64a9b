"""`sttx vocab`: learns a vocabulary from text files."""

import time
from pathlib import Path

import click

from sttx_cli.options import PathName
from sttx_cli.output import emit_json, say
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import TrieTokenizer, create_vocab_file

_EVERY = 10.0


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
    help="Ids of the vocabulary, the document mark among them: 257 are the bytes alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(texts: tuple[Path, ...], out: Path, size: int, as_json: bool) -> None:
    """Learn a vocabulary from text files.

    TEXT is a text file, JSON lines such as {"text": "…"}, or a folder of text files; what is no UTF-8 text
    is passed over in a folder. They are read as a stream, once to learn from, once to count the bytes per
    token that the vocabulary gives on them. FILE is in RWKV's format; as a tokenizer it is named trie:FILE.
    """
    from sttx_train.data import (
        SMALLEST,
        bytes_per_token,
        find_texts,
        learn_tokens,
        read_pieces,
    )
    from sttx_train.files import replacing_file

    if size < SMALLEST:
        raise UsageError(f"--size {size} is too small: the 256 bytes and the document mark need {SMALLEST}")
    _refuse_foreign(out)
    started = time.monotonic()
    found = find_texts(texts, leave_out=out)
    skipped = f"; {len(found.skipped):,} files are no text" if found.skipped else ""
    say(f"{len(found.files):,} text files, {found.size:,} bytes{skipped}")
    tokens = learn_tokens(read_pieces(found, _Progress("read", found.size), say), size)
    with replacing_file(out) as aside:
        create_vocab_file(tokens, aside, add_bytes=False)
    tokenizer = TrieTokenizer(out)
    if tokenizer.vocab_size < size:
        say(f"note: the text gives {tokenizer.vocab_size:,} ids, not {size:,}: more text gives more")
    rate = bytes_per_token(tokenizer, read_pieces(found, _Progress("encoded", found.size)))
    told = {
        "out": str(out),
        "size": tokenizer.vocab_size,
        "bytes_per_token": rate,
        "sha256": tokenizer.sha256,
        "files": len(found.files),
        "bytes": found.size,
        "skipped": len(found.skipped),
        "seconds": time.monotonic() - started,
    }
    if as_json:
        emit_json(told)
    else:
        click.echo(
            f"{out}: {tokenizer.vocab_size:,} ids, {rate:.3f} bytes per token on {found.size:,} bytes read"
        )


def _refuse_foreign(out: Path) -> None:
    """Refuse to write over anything but an older vocabulary."""
    if not out.exists():
        return
    try:
        TrieTokenizer(out)
    except DataError:
        raise UsageError(f"{str(out)!r} is there and is no vocabulary: give --out another path") from None


class _Progress:
    """Tells now and then how much of a text is done."""

    def __init__(self, done: str, size: int) -> None:
        self._done, self._size = done, size
        self._bytes, self._told = 0, time.monotonic()

    def __call__(self, count: int) -> None:
        self._bytes += count
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            share = f"{100 * self._bytes / self._size:.0f}%"
            say(f"{self._done} {self._bytes:,} of {self._size:,} bytes ({share})")
