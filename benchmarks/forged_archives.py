"""Forged archives: small ones of every method and coder, and ways to forge copies with right checksums.

`fuzz_archives.py` reads them. A forgery depends on the dice alone.
"""

import base64
import copy
import dataclasses
import random
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from fuzz import ODD, damaged_bytes, nested, places

from sttx_core.experts import ExpertsConfig
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.coding import MAGIC, CompressConfig, Member, Method, codec, compress, method_of, networks
from sttx_train.coding.container import BLOCK, FILE, HEAD_BYTES, INDEX, STORED, VERSION
from sttx_train.coding.packed import pack, unpack
from sttx_train.formats import save_model
from sttx_train.rwkv7 import RWKV7, RWKV7Config

TEXT = b"".join(
    b'{"type":"user","uuid":"u-%d","text":"Run test %d again"}\n' % (turn, turn) for turn in range(9)
)
SIGNED = base64.b64encode(random.Random(0).randbytes(300))
LINES = b"".join(
    b'{"uuid":"%s","at":"2026-12-01T10:00:%02d.%03dZ","n": %d.50,"signature":"%s"}\n'
    % (
        f"0f8c{97 * turn:04x}-1d2e-4a3b-8c4d-5e6f7a8b9c{turn:02x}".encode(),
        turn,
        turn,
        turn,
        SIGNED[: 88 + 4 * turn],
    )
    for turn in range(9)
)
FILES: Mapping[str, bytes] = {
    "a": TEXT[:120],
    "b/c": TEXT,
    "b/e": b"",
    "d": b"x\xff" * 60,
    "lines": LINES,
    "é": "✓ done\n".encode() * 9,
}
RANDOM = "cfg:hidden=64,layers=1,seed=7;policy:schedule=0..300:train(scope=all,opt=sgd,lr=0.01);300..:infer"
TINY = ExpertsConfig(slot_bits=10, history_bits=10, index_bits=6)
NUMBERS = (0, 1, 2, 3, 5, 63, 100, 16383, 16384, 65535, 2**18 - 1, 2**18, 2**31, 2**32 - 1)
WORDS: tuple[Any, ...] = (
    *("native", "portable", "experts", "mini+experts", "model+experts", "mini[learning]+experts"),
    *(
        "mini[learned]+experts",
        "model[learned]+model+experts",
        "model[learning]+experts",
        "cfg:hidden=64",
        "experts[primed]",
        "model+experts[primed]",
    ),
    *("file:/dev/zero", "../../outside", "/outside", "a/../../b", "\ud800", "\0", "a" * 300, "b/c", "b", "~"),
    *("rans", "ac", 1e400, float("nan"), 2**31, 2**62, 2**64, 24, 25, 30, 64, 65),
)
_HEAD = struct.Struct("<2scIIHIIII8s")
_START = struct.Struct("<HH")
_CHECK = struct.Struct("<I")
_END = struct.Struct("<Q8s")
_FORGED = ("segment", "file", "more", "plain", "tokens")
_FIELDS = ("mark", "kind", *_FORGED, "size", "payload_check", "plain_check")
_CLOSED = b"sttx-end"

Record = tuple[dict[str, Any], bytes]
"""The fields of a record's head, and its payload."""


class Archives:
    """Small archives of the same files, one for each way to code them.

    Blocks are made small, so that a file has several. Codes with a tiny model, which is loaded once.
    """

    def __init__(self, folder: Path) -> None:
        codec._STREAM_BYTES, codec._LEAST_PIECE = 200, 30
        networks.load_networks = lru_cache(4)(networks.load_networks)
        self.model, self.files = str(folder / "model"), dict(FILES)
        config = RWKV7Config(vocab_size=257, hidden_size=64, num_layers=2, head_size=32)
        torch.manual_seed(0)
        model = RWKV7(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        save_model(model, Path(self.model), tokenizer=ByteTokenizer())
        members = []
        for name, content in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
            members.append(Member(name=name, path=folder / name))
        self.experts: list[bytes] = []
        self.networks: list[bytes] = []
        ways = {
            "experts": method_of("fast"),
            "network": method_of(method=f"file:{self.model}", streams=3),
            "portable": method_of("default", model=self.model, streams=3),
            "native": method_of("default", model=self.model, profile="native"),
            "random": method_of(method=RANDOM, profile="native"),
        }
        for way, method in ways.items():
            small = dataclasses.replace(method, experts=TINY)
            for coder in ("ac", "rans"):
                for segment_mb in (0.0, 0.0002, 4.0):
                    made = _made(folder / "made.sttx", members, small, coder, segment_mb)
                    (self.experts if way == "experts" else self.networks).append(made)

    def forged(self, dice: random.Random, networks: float) -> bytes:
        """Return a damaged archive; of a method with a network with this probability."""
        group = self.networks if dice.random() < networks else self.experts
        data = dice.choice(group)
        if dice.random() < 0.3:
            return _flipped(data, dice) if dice.random() < 0.5 else damaged_bytes(data, dice)
        return _forged(data, dice.choice(group), dice)


def _made(path: Path, members: list[Member], method: Method, coder: str, segment_mb: float) -> bytes:
    compress(members, path, CompressConfig(coder=coder, segment_mb=segment_mb), method=method)
    data = path.read_bytes()
    path.unlink()
    assert _joined(*_parsed(data)) == data, "the format is not the one that is forged here"
    return data


def _flipped(data: bytes, dice: random.Random) -> bytes:
    """Change single bits."""
    flipped = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        flipped[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(flipped)


def _parsed(data: bytes) -> tuple[bytes, list[Record]]:
    """Return the text of an archive's header, and its records."""
    at = len(MAGIC) + _START.size
    _, size = _START.unpack(data[len(MAGIC) : at])
    header, at = data[at : at + size], at + size + _CHECK.size
    records = []
    while at < len(data):
        head = dict(zip(_FIELDS, _HEAD.unpack_from(data, at), strict=True))
        at += HEAD_BYTES
        records.append((head, data[at : at + head["size"]]))
        at += head["size"] + (_END.size if head["kind"] == INDEX else 0)
    return header, records


def _joined(header: bytes, records: list[Record], dice: random.Random | None = None) -> bytes:
    """Return the archive of a header and records, with checksums that are right.

    Args:
        header: its text.
        records: in their order.
        dice: changes the format's version, and where the index is said to be, now and then.
    """
    version = dice.choice((0, 1, 3, 65535)) if dice and dice.random() < 0.01 else VERSION
    start = MAGIC + _START.pack(version, len(header)) + header
    data = start + _CHECK.pack(zlib.crc32(start))
    for head, payload in records:
        whole = head | {"size": len(payload), "payload_check": zlib.crc32(payload)}
        packed = _HEAD.pack(*(whole[name] for name in _FIELDS))
        at = len(data)
        data += packed + _CHECK.pack(zlib.crc32(packed)) + payload
        if head["kind"] == INDEX:
            lies = dice is not None and dice.random() < 0.1
            data += _END.pack(dice.choice((0, 5, at + 1, 2**63, 2**64 - 1)) if dice and lies else at, _CLOSED)
    return data


def _forged(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Change the header and records of an archive, with records of another one."""
    header, records = _parsed(data)
    if dice.random() < 0.3:
        header = _forged_json(header, dice)[:65535]
    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        number = dice.randrange(len(records))
        head, payload = copy.copy(records[number][0]), records[number][1]
        match dice.randrange(8):
            case 0 | 1:
                _forge_head(head, dice)
                records[number] = head, payload
            case 2:
                records[number] = head, damaged_bytes(payload, dice)
            case 3:
                records[number] = head, _flipped(payload, dice) if payload else b"x"
            case 4:
                records.insert(number, dice.choice(_parsed(other)[1]))
            case 5:
                records[number] = dice.choice(_parsed(other)[1])
            case 6:
                records.insert(dice.randrange(len(records)), records.pop(number))
            case _:
                records[number] = head, _forged_payload(head, payload, dice)
    return _joined(header, records, dice)


def _forge_head(head: dict[str, Any], dice: random.Random) -> None:
    """Change a field of a head."""
    if dice.random() < 0.1:
        head["kind"] = dice.choice((BLOCK, FILE, INDEX, STORED, b"Z"))
    name = dice.choice(_FORGED)
    near = head[name] + dice.choice((-1, 1))
    most = 65535 if name == "more" else 2**32 - 1
    head[name] = min(max(near if dice.random() < 0.3 else dice.choice(NUMBERS), 0), most)


def _forged_payload(head: Mapping[str, Any], payload: bytes, dice: random.Random) -> bytes:
    """Change what a file's record or an index says; other payloads are cut or made longer."""
    if head["kind"] == FILE:
        return _forged_json(payload, dice)
    if head["kind"] == INDEX:
        more = {"files": [[]] * 1_000_000, "segments": []}
        return pack(more, bounded=False) if dice.random() < 0.01 else _forged_json(payload, dice)
    return payload[: dice.randrange(len(payload) + 1)] + bytes(dice.choice((0, 0, 1, 1000)))


def _forged_json(text: bytes, dice: random.Random) -> bytes:
    """Change values of a packed JSON document, or its bytes."""
    try:
        value = unpack(text, 1 << 20)
    except ValueError:  # it is forged already
        value = None
    if value is None or dice.random() < 0.1:
        return damaged_bytes(text, dice)
    for _ in range(dice.choice((1, 1, 2))):
        *path, key = dice.choice(list(places(value))[1:] or [()]) or (None,)
        inner = value
        for step in path:
            inner = inner[step]
        if key is None:
            continue
        match dice.randrange(5):
            case 0 if isinstance(inner, dict):
                del inner[key]
            case 1 if isinstance(inner[key], int):
                inner[key] += dice.choice((-1, 1, 7, 255))
            case 2:
                inner[key] = copy.deepcopy(dice.choice(ODD)) if dice.random() < 0.9 else nested(dice)
            case _:
                inner[key] = dice.choice(WORDS)
    return pack(value, bounded=dice.random() < 0.5)
