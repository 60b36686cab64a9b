"""Learns the trie vocabulary: 4096 ids, of which id 0 ends a document and is no token of the file.

Byte-pair encoding proposes the tokens under several pre-tokenisations; the one whose tokens, used by greedy
longest match as a trie tokenizer uses them, give the most bytes per token on text it has not seen, is kept.
"""

import argparse
import json
import pathlib
import random

import tokenizers
from selection import held_out
from tokenizers import models, pre_tokenizers, trainers

from sttx_core.tokenizers import TrieTokenizer, create_vocab_file

SIZE = 4096
LONGEST_TOKEN = 40
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
"""From plain words to pieces that hold a turn's label, a line's number with its mark and indentation, or
punctuation with the word after it."""


def byte_of() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet stands for."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def learn(texts: list[str], pattern: str, size: int = SIZE) -> list[bytes]:
    """The `size - 1` tokens that byte-pair encoding finds, single bytes first."""
    model = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    alphabet, order = byte_of(), sorted(model.get_vocab().items(), key=lambda item: item[1])
    learned = dict.fromkeys(bytes(alphabet[char] for char in token) for token, _ in order)
    return [bytes([byte]) for byte in range(256)] + [token for token in learned if len(token) > 1]


def bytes_per_token(path: pathlib.Path, texts: list[str]) -> float:
    """Bytes per token of greedy longest match on `texts`."""
    encoder = TrieTokenizer(path)
    return sum(len(text.encode()) for text in texts) / sum(len(encoder.encode(text)) for text in texts)


def texts_of(path: pathlib.Path, limit: float, rng: random.Random) -> list[str]:
    """The starts of about `limit` bytes of documents, none of them held out."""
    rows = path.read_text(encoding="utf-8").split("\n")
    rng.shuffle(rows)
    texts: list[str] = []
    size = 0
    for row in rows:
        item = json.loads(row) if row else {}
        if item and not ("path" in item and held_out(item)):
            texts.append(item["text"][:LONGEST_TEXT])
            size += len(texts[-1])
        if size > limit:
            break
    return texts


def main() -> None:
    """Writes `<work>/vocab.txt` and prints each pre-tokenisation's bytes per token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=20_000_000)
    options = parser.parse_args()
    rng = random.Random(7)
    sessions = options.bytes * SAMPLE_OF_SESSIONS
    sample = texts_of(options.work / "transcripts.train.jsonl", sessions, rng)
    sample += texts_of(options.work / "files.jsonl", options.bytes - sessions, rng)
    rng.shuffle(sample)
    held = texts_of(options.work / "transcripts.held.jsonl", 600_000, rng)
    scores: dict[str, float] = {}
    for name, pattern in PATTERNS.items():
        path = options.work / f"vocab.{name.replace(' ', '-')}.txt"
        create_vocab_file(learn(sample[: len(sample) // 3], pattern), path)
        scores[name] = bytes_per_token(path, held)
        print(f"{name:12} {scores[name]:.4f}", flush=True)
    best = max(scores, key=scores.__getitem__)
    create_vocab_file(learn(sample, PATTERNS[best]), options.work / "vocab.txt")
    print(f"kept: {best}, {bytes_per_token(options.work / 'vocab.txt', held):.4f} with the whole sample")


if __name__ == "__main__":
    main()
