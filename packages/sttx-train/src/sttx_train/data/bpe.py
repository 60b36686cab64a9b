"""Learns a trie vocabulary from text: byte-pair encoding picks the tokens, greedy longest match uses them.

Texts are read as a stream. Only the distinct words and their counts stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from sttx_core.errors import DataError, UsageError
from sttx_core.text import encodable
from sttx_core.tokenizers import Tokenizer
from sttx_train.data.detect import detect_format, open_entries
from sttx_train.data.text_files import not_text, read_text, text_size
from sttx_train.formats.tokenizer_json import byte_alphabet

SMALLEST = 257
"""The 256 bytes and the end-of-text id."""
LONGEST_TOKEN = 39
"""Bytes of the longest token; longer ones are rules and banners, which rarely repeat."""
WORDS = (
    r"[^\S\n]*\n+[ \t]*|\s+(?!\S)| ?[^\s\p{L}\p{N}]{0,3}[\p{L}\p{M}]+"
    r"| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+\s*|\s+"
)
"""The pieces that a token may not extend beyond, in Oniguruma's syntax: a line end with the indentation after
it, a word with the punctuation before it, three digits, punctuation with the space after it. Of eleven
patterns this one gave the most bytes per token on Python, documentation and sessions at 4096 ids."""
_PIECE = 1 << 14


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Text files; those of a folder are sorted by name.

    Attributes:
        files: UTF-8, without NUL bytes, none empty.
        lines: those of them that are JSON lines or JSON documents with several texts.
        size: total bytes.
        skipped: files in folders that are not text.
    """

    files: tuple[Path, ...]
    lines: frozenset[Path]
    size: int
    skipped: tuple[Path, ...]


def find_texts(paths: Sequence[Path], *, leave_out: Path | None = None) -> TextFiles:
    """List text files, and those in folders. Each file is read once to check that it is text.

    A file in ``paths`` may be JSON lines or JSON, detected by content. Files in folders are read as plain
    text.

    Args:
        paths: files and folders.
        leave_out: a file to ignore, even inside a folder.

    Raises:
        UsageError: a path does not exist.
        DataError: a path cannot be read, a file in ``paths`` is not text, or there is no text at all.
    """
    files: dict[Path, int] = {}
    lines: set[Path] = set()
    skipped: list[Path] = []
    left_out = leave_out.resolve() if leave_out is not None else None
    for path in paths:
        if not path.exists():
            raise UsageError(f"{str(path)!r} does not exist: name text files or folders of them")
        if path.is_dir():
            listed = sorted(file for file in path.rglob("*") if file.is_file())
            sizes = {file: text_size(file) for file in listed if file.resolve() != left_out}
            skipped += [file for file, size in sizes.items() if size is None]
            files |= {file: size for file, size in sizes.items() if size}
        elif path.resolve() != left_out:
            if _holds_lines(path):
                lines.add(path)
            if size := _required_size(path):
                files[path] = size
    if not files:
        note = f" ({len(skipped)} files are not text)" if skipped else ""
        raise DataError(f"there is no text in {', '.join(repr(str(path)) for path in paths)}{note}")
    return TextFiles(
        files=tuple(files), lines=frozenset(lines), size=sum(files.values()), skipped=tuple(skipped)
    )


def read_pieces(
    texts: TextFiles,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Yield the texts: plain files in pieces that end at a line end, unless a line is very long.

    Args:
        texts: the result of `find_texts`; in plain files every line end becomes a newline.
        progress: called with the bytes of each piece or JSON line.
        say: called with a sentence about JSON lines or entries that were left out.

    Raises:
        DataError: JSON lines hold numbers, or no line can be read.
    """
    for path in texts.files:
        yield from _entries(path, progress, say) if path in texts.lines else _pieces(path, progress)


def _pieces(path: Path, progress: Callable[[int], None] | None) -> Iterator[str]:
    for piece in read_text(path, _PIECE):
        if progress is not None:
            progress(len(piece.encode()))
        yield piece


def _entries(
    path: Path, progress: Callable[[int], None] | None, say: Callable[[str], None] | None
) -> Iterator[str]:
    lines = open_entries(path, progress)
    for number, entry in lines:
        if not isinstance(entry, str):
            raise DataError(
                f"{lines.unit} {number} of {str(path)!r} holds numbers: a vocabulary is learned from text"
            )
        yield entry
    if say is not None and (complaint := lines.complaint()):
        say(complaint)


def learn_tokens(
    texts: Iterable[str], size: int, *, pattern: str = WORDS, longest: int = LONGEST_TOKEN
) -> list[bytes]:
    """Learn the tokens of a vocabulary: the single bytes, then the merges of byte-pair encoding in order.

    Args:
        texts: the training texts; each is read once.
        size: ids of the vocabulary, including the end-of-text id; a small text gives fewer.
        pattern: matches the pieces that a token may not extend beyond, in Oniguruma's syntax.
        longest: bytes of the longest token.

    Returns:
        At most ``size - 1`` tokens, for `create_vocab_file`.

    Raises:
        UsageError: the size is below 257.
        DataError: there is no text.
    """
    if size < SMALLEST:
        raise UsageError(f"a vocabulary of {size!r} ids is too small: 256 bytes and a mark need {SMALLEST}")
    backend = Backend(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=longest + 1,  # the library's limit is exclusive
        show_progress=False,
    )
    backend.train_from_iterator(_some(texts), trainer)
    alphabet, order = byte_alphabet(), sorted(backend.get_vocab().items(), key=lambda item: item[1])
    learned = dict.fromkeys(bytes(alphabet[char] for char in token) for token, _ in order)
    return [bytes([byte]) for byte in range(256)] + [token for token in learned if len(token) > 1]


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """Return how many bytes of the texts a token stands for on average.

    Raises:
        DataError: there is no text.
    """
    counts = [0, 0]
    for text in _some(texts):
        counts[0] += len(text.encode())
        counts[1] += len(tokenizer.encode(text))
    return counts[0] / counts[1]


def _some(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts that can be encoded; raise a DataError if all are empty."""
    nothing = True
    for text in texts:
        nothing = nothing and not text
        yield encodable(text)
    if nothing:
        raise DataError("there is no text to learn from: give some")


def _holds_lines(path: Path) -> bool:
    """Return whether a file is JSON rather than plain text; raise a DataError for other data."""
    data_format = detect_format(path)
    if data_format not in ("json", "json lines", "text"):
        raise DataError(f"{str(path)!r} is not text but data in the format {data_format!r}: name text files")
    return data_format != "text"


def _required_size(path: Path) -> int:
    """Return the bytes of a file that must be text."""
    size = text_size(path)
    if size is None:
        raise not_text(path)
    return size
