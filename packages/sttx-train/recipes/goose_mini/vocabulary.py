"""Learns the trie vocabulary of 4096 ids; id 0 marks documents and is not in the file.

Byte-pair encoding learns tokens with several pre-tokenizations. The one with the most bytes per token on
validation text, encoded by greedy longest match, is kept.
"""

import argparse
import json
import pathlib
import random

from selection import in_validation

from sttx_core.tokenizers import TrieTokenizer, create_vocab_file
from sttx_train.data.bpe import bytes_per_token, learn_tokens

SIZE = 4096
LONGEST_TEXT = 20_000
SAMPLE_OF_SESSIONS = 0.65

_LABEL = (
    r"\n\n(?:User|Assistant|Tool call|Tool result|Tool error): ?"
    r'(?:(?:Read|Edit|Bash|Grep|Glob|Write|TodoWrite)[ \n](?:\{"[a-z_]+":"?)?)?'
)
_TURNS_AND_LINES = _LABEL + r"|[^\S\n]*\n+[ \t]*|\s+(?!\S)"
_MARKS = r" ?\p{N}{1,2}| ?→[ \t]*| ?[^\s\p{L}\p{N}]+\n?[ \t]*|\s+"
_CASES = r"(?:\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll}))"
PATTERNS = {
    "words": r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "lines": _TURNS_AND_LINES + r"| ?\p{L}+| ?\p{N}{1,2}| ?→[ \t]*| ?[^\s\p{L}\p{N}]+|\s+",
    "camel": _TURNS_AND_LINES + rf"| ?{_CASES}|{_MARKS}",
    "glued": _TURNS_AND_LINES + rf"|[ ]?[^\s\p{{L}}\p{{N}}]{{0,2}}\p{{L}}+|{_MARKS}",
    "glued camel": _TURNS_AND_LINES + rf"|[ ]?[^\s\p{{L}}\p{{N}}]{{0,2}}{_CASES}|{_MARKS}",
    "glued lines": _TURNS_AND_LINES
    + r"|[ ]?[^\s\p{L}\p{N}]{0,3}\p{L}+|(?:\n *)?\p{N}{1,3}(?:→|\t)?[ \t]*|[ ]?[^\s\p{L}\p{N}]+\s*|\s+",
}
"""From plain words to pieces with a turn's label, a line number with its mark and indentation, or
punctuation with the next word."""


def texts_of(path: pathlib.Path, limit: float, rng: random.Random) -> list[str]:
    """Return the starts of documents, about `limit` bytes together, without validation data."""
    rows = path.read_text(encoding="utf-8").split("\n")
    rng.shuffle(rows)
    texts: list[str] = []
    size = 0
    for row in rows:
        item = json.loads(row) if row else {}
        if item and not ("path" in item and in_validation(item)):
            texts.append(item["text"][:LONGEST_TEXT])
            size += len(texts[-1])
        if size > limit:
            break
    return texts


def main() -> None:
    """Write `<work>/vocab.txt` and print each pre-tokenization's bytes per token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=20_000_000)
    options = parser.parse_args()
    rng = random.Random(7)
    sessions = options.bytes * SAMPLE_OF_SESSIONS
    sample = texts_of(options.work / "transcripts.train.jsonl", sessions, rng)
    sample += texts_of(options.work / "files.jsonl", options.bytes - sessions, rng)
    rng.shuffle(sample)
    validation = texts_of(options.work / "transcripts.validation.jsonl", 600_000, rng)
    scores: dict[str, float] = {}
    for name, pattern in PATTERNS.items():
        path = options.work / f"vocab.{name.replace(' ', '-')}.txt"
        create_vocab_file(learn_tokens(sample[: len(sample) // 3], SIZE, pattern=pattern), path)
        scores[name] = bytes_per_token(TrieTokenizer(path), validation)
        print(f"{name:12} {scores[name]:.4f}", flush=True)
    best = max(scores, key=scores.__getitem__)
    path = options.work / "vocab.txt"
    create_vocab_file(learn_tokens(sample, SIZE, pattern=PATTERNS[best]), path)
    print(f"kept: {best}, {bytes_per_token(TrieTokenizer(path), validation):.4f} with the whole sample")


if __name__ == "__main__":
    main()
