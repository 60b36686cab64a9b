"""Learns the trie vocabulary: 4096 ids, of which id 0 ends a document and is no token of the file.

Byte-pair encoding proposes the tokens under several pre-tokenisations; the one whose tokens, used by greedy longest
match as a trie tokenizer uses them, give the most bytes per token on text it has not seen, is kept.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random

import tokenizers
from sttx_core.tokenizers.trie import TrieTokenizer
from tokenizers import models, pre_tokenizers, trainers
from transcripts import held_out

SIZE = 4096
LABEL = r"\n\n(?:User|Assistant|Tool call|Tool result|Tool error): ?(?:(?:Read|Edit|Bash|Grep|Glob|Write|TodoWrite)[ \n](?:\{\"[a-z_]+\":\"?)?)?"
NEWLINE = r"[^\S\n]*\n+[ \t]*|\s+(?!\S)"
PATTERNS = {
    "words": r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "lines": LABEL + "|" + NEWLINE + r"| ?\p{L}+| ?\p{N}{1,2}| ?[→][ \t]*| ?[^\s\p{L}\p{N}]+|\s+",
    "camel": LABEL + "|" + NEWLINE + r"| ?\p{Lu}?\p{Ll}+| ?\p{Lu}+(?!\p{Ll})| ?\p{N}{1,2}| ?→[ \t]*| ?[^\s\p{L}\p{N}]+\n?[ \t]*|\s+",
    "glued": LABEL + "|" + NEWLINE + r"|[ ]?[^\s\p{L}\p{N}]{0,2}\p{L}+| ?\p{N}{1,2}| ?→[ \t]*| ?[^\s\p{L}\p{N}]+\n?[ \t]*|\s+",
    "glued camel": LABEL + "|" + NEWLINE + r"|[ ]?[^\s\p{L}\p{N}]{0,2}(?:\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll}))| ?\p{N}{1,2}| ?→[ \t]*| ?[^\s\p{L}\p{N}]+\n?[ \t]*|\s+",
    "glued lines": LABEL + "|" + NEWLINE + r"|[ ]?[^\s\p{L}\p{N}]{0,3}\p{L}+|(?:\n *)?\p{N}{1,3}(?:→|\t)?[ \t]*|[ ]?[^\s\p{L}\p{N}]+\s*|\s+",
}


def byte_of() -> dict[str, int]:
    """The byte that each character of the byte-level alphabet stands for."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def learn(texts: list[str], pattern: str, size: int = SIZE) -> list[bytes]:
    """The tokens that byte-pair encoding finds, single bytes first."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, max_token_length=40)
    model.train_from_iterator(texts, trainer)
    alphabet = byte_of()
    order = sorted(model.get_vocab().items(), key=lambda item: item[1])
    learned = [bytes(alphabet[char] for char in token) for token, _ in order]
    singles = [bytes([byte]) for byte in range(256)]
    return singles + [token for token in dict.fromkeys(learned) if len(token) > 1]


def write(tokens: list[bytes], path: pathlib.Path) -> None:
    """Writes `id repr length` lines, ids from 1."""
    rows = []
    for number, token in enumerate(tokens, 1):
        try:
            shown = repr(token.decode("utf-8"))
        except UnicodeDecodeError:
            shown = repr(token)
        rows.append(f"{number} {shown} {len(token)}\n")
    path.write_text("".join(rows), encoding="utf-8")


def bytes_per_token(path: pathlib.Path, texts: list[str]) -> float:
    """Greedy longest match's bytes per token on `texts`."""
    encoder = TrieTokenizer(path)
    return sum(len(text.encode()) for text in texts) / sum(len(encoder.encode(text)) for text in texts)


def texts_of(path: pathlib.Path, limit: int, rng: random.Random) -> list[str]:
    """About `limit` bytes of documents, drawn evenly."""
    rows = path.read_text(encoding="utf-8").split("\n")
    rng.shuffle(rows)
    out, size = [], 0
    for row in rows:
        item = json.loads(row) if row else {}
        if row and not ("path" in item and held_out(item)):
            text = item["text"][:20_000]
            out.append(text)
            size += len(text)
        if size > limit:
            break
    return out


def main() -> None:
    """Writes `<work>/vocab.txt` and prints each pre-tokenisation's bytes per token."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bytes", type=int, default=20_000_000)
    options = parser.parse_args()
    rng = random.Random(7)
    sample = texts_of(options.work / "transcripts.train.jsonl", int(options.bytes * 0.65), rng)
    sample += texts_of(options.work / "files.jsonl", int(options.bytes * 0.35), rng)
    rng.shuffle(sample)
    held = texts_of(options.work / "transcripts.held.jsonl", 600_000, rng)
    scores = {}
    for name, pattern in PATTERNS.items():
        path = options.work / f"vocab.{name}.txt"
        tokens = learn(sample[: len(sample) // 3], pattern)
        write(tokens, path)
        scores[name] = round(bytes_per_token(path, held), 4)
        print(name, len(tokens), scores[name], flush=True)
    best = max(scores, key=scores.__getitem__)
    write(learn(sample, PATTERNS[best]), options.work / "vocab.txt")
    print(best, bytes_per_token(options.work / "vocab.txt", held))


if __name__ == "__main__":
    main()
