"""Learns a trie vocabulary from text: byte-pair encoding proposes its tokens, greedy longest match uses them.

Texts are read as a stream: what is kept in memory are the distinct words and how often each is met.
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
from sttx_train.data.detect import detect_format
from sttx_train.data.json_lines import JsonEntries
from sttx_train.data.text_files import no_text, read_text, text_size
from sttx_train.formats.tokenizer_json import byte_alphabet

SMALLEST = 257
"""The 256 bytes and the document mark."""
LONGEST_TOKEN = 39
"""Bytes of the longest token; longer ones are rules and banners, which seldom come again."""
WORDS = (
    r"[^\S\n]*\n+[ \t]*|\s+(?!\S)| ?[^\s\p{L}\p{N}]{0,3}[\p{L}\p{M}]+"
    r"| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+\s*|\s+"
)
"""What a token does not reach across, in Oniguruma's syntax: the end of a line and the indentation after it,
a word and the punctuation before it, three digits, punctuation and the space after it. Of eleven patterns it
gave the most bytes per token on Python, documentation and sessions at 4096 ids."""
_PIECE = 1 << 14


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Files of text, those of a folder in the order of their names.

    Attributes:
        files: UTF-8, without NUL bytes, none empty.
        lines: those among them that are JSON lines, a text on each.
        size: bytes in all of them.
        skipped: files of folders that are no text.
    """

    files: tuple[Path, ...]
    lines: frozenset[Path]
    size: int
    skipped: tuple[Path, ...]


def find_texts(paths: Sequence[Path], *, leave_out: Path | None = None) -> TextFiles:
    """List text files and those in folders, having read each once to see that it is text.

    A file that is named itself may be JSON lines, told by content; in a folder all text is plain.

    Args:
        paths: files and folders.
        leave_out: a file that does not count, whatever folder it is in.

    Raises:
        DataError: a path does not exist or cannot be read, a file that was named itself is no text, or there
            is no text at all.
    """
    files: dict[Path, int] = {}
    lines: set[Path] = set()
    skipped: list[Path] = []
    left_out = leave_out.resolve() if leave_out is not None else None
    for path in paths:
        if not path.exists():
            raise DataError(f"{str(path)!r} does not exist: name text files or folders of them")
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.is_file())
            sizes = {file: text_size(file) for file in found if file.resolve() != left_out}
            skipped += [file for file, size in sizes.items() if size is None]
            files |= {file: size for file, size in sizes.items() if size}
        elif path.resolve() != left_out:
            if _holds_lines(path):
                lines.add(path)
            if size := _required_size(path):
                files[path] = size
    if not files:
        note = f" ({len(skipped)} files are no text)" if skipped else ""
        raise DataError(f"there is no text in {', '.join(repr(str(path)) for path in paths)}{note}")
    return TextFiles(
        files=tuple(files), lines=frozenset(lines), size=sum(files.values()), skipped=tuple(skipped)
    )


def read_pieces(
    texts: TextFiles,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Yield texts: plain ones in pieces that end with a line where lines are not very long.

    Args:
        texts: what `find_texts` found; in plain ones every line end becomes a newline.
        progress: called with the bytes of each piece or line of JSON.
        say: told of lines of JSON that were left out.

    Raises:
        DataError: lines of JSON hold numbers, or nothing that can be read.
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
    lines = JsonEntries(path, progress)
    for number, entry in lines:
        if not isinstance(entry, str):
            raise DataError(
                f"line {number} of {str(path)!r} holds numbers: a vocabulary is learned from text"
            )
        yield entry
    if say is not None and (complaint := lines.complaint()):
        say(complaint)


def learn_tokens(
    texts: Iterable[str], size: int, *, pattern: str = WORDS, longest: int = LONGEST_TOKEN
) -> list[bytes]:
    """Learn the tokens of a vocabulary: the single bytes, then what byte-pair encoding joins, in its order.

    Args:
        texts: what to learn from; each is read once.
        size: ids of the vocabulary, the document mark among them; a small text gives fewer.
        pattern: matches what a token does not reach across, in Oniguruma's syntax.
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
        max_token_length=longest + 1,  # the library stays below what it calls the largest
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
    """Give texts that can be encoded, refusing none at all."""
    nothing = True
    for text in texts:
        nothing = nothing and not text
        yield encodable(text)
    if nothing:
        raise DataError("there is no text to learn from: give some")


def _holds_lines(path: Path) -> bool:
    """Tell whether a file is JSON lines rather than plain text, refusing other data."""
    kind = detect_format(path)
    if kind not in ("json lines", "text"):
        raise DataError(f"{str(path)!r} is no text, but data of the kind {kind!r}: name text files")
    return kind == "json lines"


def _required_size(path: Path) -> int:
    """Return the bytes of a file that must be text."""
    size = text_size(path)
    if size is None:
        raise no_text(path)
    return size
