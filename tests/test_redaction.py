"""No file of a training run contains a secret: every byte is searched.

A session contains secrets of fifty kinds and a tiny model learns from it. Then checkpoints, tensors, token
ids, phrases, metrics, logs and the printed output are searched. Without redaction the same search finds the
secrets.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sttx_ccsniff.redact.samples import KINDS, sample
from sttx_core.tokenizers import ByteTokenizer

PIECE = 12  # consecutive characters of a secret that must not remain
TURNS = 2  # at the second occurrence of a secret, phrases may contain it
TOKENIZER = ByteTokenizer()


def session(planted: dict[str, str]) -> Iterator[dict]:
    """Yield records with each secret: a user message, a tool's input, its result and an unknown record."""
    common = {"sessionId": "s", "timestamp": "2026-02-02T09:00:00Z", "cwd": "/srv/app"}
    for turn in range(TURNS):
        for number, (kind, text) in enumerate(planted.items()):
            call = f"{kind}-{turn}"
            use = {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": text}}
            result = {"type": "tool_result", "tool_use_id": call, "content": json.dumps({"out": text})}
            records = [
                {"type": "user", "message": {"content": text}},
                {"type": "assistant", "message": {"content": [use]}},
                {"type": "user", "message": {"content": [result]}, "toolUseResult": {"stdout": text}},
                {"type": "not-invented-yet", "data": {text: [text]}},
            ]
            yield {**common, "uuid": call, **records[(number + turn) % len(records)]}


def pieces(secret: str) -> set[str]:
    """Return pieces of a secret that must not remain, without the first, which is the public prefix."""
    parts: set[str] = set()
    for line in secret.split("\n"):
        if "-----" not in line:
            parts |= {line[end - PIECE : end] for end in range(len(line), PIECE, -PIECE)} or {line}
    return parts


def ids_in(value: object) -> Iterator[list[int]]:
    """Yield every list of integers in a JSON value: it may be token ids."""
    if isinstance(value, dict):
        for item in value.values():
            yield from ids_in(item)
    elif isinstance(value, list):
        if value and all(isinstance(item, int) for item in value):
            yield value
        for item in value:
            yield from ids_in(item)


def decoded(ids: list[int]) -> bytes:
    return TOKENIZER.decode_bytes([one for one in ids if 0 <= one < TOKENIZER.vocab_size])


def all_content(folder: Path) -> bytes:
    """Return every byte of every file in a folder, with token ids decoded, also without JSON's escapes."""
    contents: list[bytes] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        contents.append(content)
        if path.suffix == ".safetensors":
            whole = [tensor for tensor in load_file(path).values() if not tensor.dtype.is_floating_point]
            contents += [decoded(tensor.flatten().tolist()) for tensor in whole]
        elif path.suffix in (".json", ".jsonl"):
            for document in [content] if path.suffix == ".json" else content.splitlines():
                contents += [decoded(ids) for ids in ids_in(json.loads(document))]
    everything = b"\0".join(contents)
    return everything + re.sub(rb"\\+(.)", rb"\1", everything)


@pytest.fixture(scope="module")
def planted():
    dice = random.Random(5)
    others = KINDS.index("slack-webhook")
    chosen = (*KINDS[:others:3], *KINDS[others:])  # a third of the vendors' tokens, because they are similar
    return {kind: sample(kind, dice) for kind in chosen}


@pytest.fixture(scope="module")
def trained(tiny_model, planted, tmp_path_factory):
    """Return a function that trains on the session with the secrets and returns the folder of all output."""
    talk = tmp_path_factory.mktemp("talk") / "talk.jsonl"
    records = session({kind: made.text for kind, made in planted.items()})
    talk.write_text("".join(json.dumps(record) + "\n" for record in records))

    def train(*options: str) -> Path:
        folder = tmp_path_factory.mktemp("output")
        # The key of the tags belongs to the machine, not to the run, so it is in another folder.
        folders = {
            "STTX_LOG_DIR": str(folder / "log"),
            "STTX_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        }
        command = [sys.executable, "-m", "sttx_cli", "train", "--ccsniff-from", str(talk), "--json"]
        command += ["--model", str(tiny_model), "--checkpoint-dir", str(folder / "run"), "--device", "cpu"]
        command += ["--window", "512", "--phrases", "on", "--no-frozen", *options]
        done = subprocess.run(command, env={**os.environ, **folders}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        (folder / "stdout").write_bytes(done.stdout)
        (folder / "stderr").write_bytes(done.stderr)
        return folder

    return train


def kinds_found(planted, everything: bytes) -> set[str]:
    return {
        kind
        for kind, made in planted.items()
        if any(piece.encode() in everything for piece in pieces(made.secret))
    }


@pytest.mark.slow
def test_no_secret_remains(trained, planted):
    folder = trained()
    names = {str(path.relative_to(folder)).split("/")[0] for path in folder.rglob("*") if path.is_file()}
    assert names == {"log", "run", "stdout", "stderr"}
    assert len(planted) > 40
    everything = all_content(folder)
    assert kinds_found(planted, everything) == set()
    assert b"[REDACTED anthropic-key " in everything
    redacted = json.loads((folder / "stdout").read_bytes())["source"]["redacted"]
    assert planted.keys() <= redacted.keys()
    assert b"redaction is off" not in everything


@pytest.mark.slow
def test_without_redaction_the_same_search_finds_them(trained, planted):
    folder = trained("--no-redact")
    everything = all_content(folder)
    assert kinds_found(planted, everything) == planted.keys()
    assert b"[REDACTED " not in everything
    assert b"redaction is off" in (folder / "stderr").read_bytes()


def test_the_search_reads_bytes_escapes_and_token_ids(tmp_path, planted):
    import torch
    from safetensors.torch import save_file

    secret = planted["private-key"].secret
    assert kinds_found(planted, all_content(tmp_path)) == set()
    ids = TOKENIZER.encode(secret)
    save_file({"tokens": torch.tensor(ids, dtype=torch.int32)}, tmp_path / "replay.safetensors")
    assert kinds_found(planted, all_content(tmp_path)) == {"private-key"}
    (tmp_path / "a.json").write_text(json.dumps({"a": {"b": TOKENIZER.encode(planted["bearer"].secret)}}))
    (tmp_path / "b.txt").write_text(json.dumps(json.dumps(planted["azure-key"].secret)).replace("/", "\\/"))
    assert kinds_found(planted, all_content(tmp_path)) == {"private-key", "bearer", "azure-key"}
