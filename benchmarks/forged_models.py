"""Forged model files: a tiny model in every format, and ways to forge a copy of it.

`fuzz_models.py` reads them. A forgery depends on the dice alone.
"""

import copy
import json
import os
import pickletools
import random
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fuzz import ODD, damaged_bytes, nested, places
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from sttx_core.tokenizers import ByteTokenizer
from sttx_train.formats import save_model, save_state
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer
from sttx_train.rwkv7 import RWKV7, RWKV7Config

SIZES: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    3,
    31,
    33,
    10**9,
    2**31,
    2**40,
    2**62,
    2**63,
    10**30,
    1.5,
    float("nan"),
    "8",
    None,
    True,
    [],
)
EPSILONS: tuple[Any, ...] = (
    0,
    -1e-5,
    1e300,
    float("nan"),
    float("inf"),
    "1e-5",
    None,
    True,
    1,
    1e-320,
    [],
    {},
)
BLOCKS = ("99999999", "4294967296", "1" * 5000, "-1", "x", "1.5", "٣", "007", "", "0", "1e3", " 1")
WORDS = (
    *(
        "emb.weight",
        "head.weight",
        "model.embeddings.weight",
        "lm_head.weight",
        "blocks.0.att.r_k",
        "a.b",
        "",
        ".",
    ),
    *(
        "_orig_mod.emb.weight",
        "module.module.x",
        "n_averaged",
        "\ud800",
        "\x1b]0;x\x07",
        "x" * 10_000,
        "." * 1000,
    ),
)
PICKLED = (
    *(
        b"N",
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"u",
        b"s",
        b"a",
        b"e",
        b"R",
        b"b",
        b"Q",
        b"0",
        b"2",
        b"\x85",
        b"\x86",
    ),
    *(
        b"\x88",
        b"K\x00",
        b"M\xff\xff",
        b"J\xff\xff\xff\xff",
        b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
        b"h\x00",
        b".",
    ),
    *(b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"ctorch\nFloatStorage\n", b"X\xff\xff\xff\x7f", b"q\x05"),
    *(
        b"ccollections\nOrderedDict\n)R",
        b"I" + b"9" * 6000 + b"\n",
        b"\x85" * 5000,
        b"(" * 5000,
        b"\x8b\xff\xff\xff\x7f",
    ),
)


def odd(dice: random.Random) -> Any:
    """Return a value that does not belong there."""
    return nested(dice) if dice.random() < 0.1 else copy.deepcopy(dice.choice((*ODD, *SIZES, *EPSILONS)))


class Models:
    """A model in every format, made once; `copy` puts one into a folder and returns its path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        model = RWKV7(
            RWKV7Config(vocab_size=320, hidden_size=16, num_layers=2, head_size=8, ffn_size=24), seed=1
        )
        model.requires_grad_(False)
        for format in ("sttx", "huggingface"):
            save_model(model, folder / format, format=format, tokenizer=ByteTokenizer())
        save_model(model, folder / "json", tokenizer=self._tokenizer())
        forms = {"emb.weight": "int8", "head.weight": "low-rank:4+int4:8", "blocks.0.att.key.weight": "2:4"}
        forms |= {"blocks.1.att.value.weight": "sparse:99", "blocks.1.ffn.key.weight": "ghost:12:3+int8"}
        stored = RWKV7(replace(model.config, forms=forms), seed=1)
        save_model(stored, folder / "stored", tokenizer=ByteTokenizer())
        self._sharded(folder / "huggingface", folder / "sharded")
        for name in ("pth", "legacy", "wrapped", "state"):
            (folder / name).mkdir()
        save_model(model, folder / "pth" / "m.pth", format="blinkdl", tokenizer=ByteTokenizer())
        tensors = torch.load(folder / "pth" / "m.pth", weights_only=True)
        torch.save(tensors, folder / "legacy" / "m.pth", _use_new_zipfile_serialization=False)
        wrapped = {f"module._orig_mod.{name}": torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, folder / "wrapped" / "m.pth")
        for name in ("legacy", "wrapped"):
            shutil.copy(folder / "pth" / "m.vocab.txt", folder / name)
        save_state(torch.zeros(2, 2, 8, 8), folder / "state" / "m.pth", metadata={"a": "b"})
        self.names = sorted(path.name for path in folder.iterdir())

    def _tokenizer(self) -> HuggingFaceTokenizer:
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        backend.train_from_iterator(
            ["the cat"] * 9,
            trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False),
        )
        backend.save(str(self.folder / "t.json"))
        tokenizer = HuggingFaceTokenizer(self.folder / "t.json")
        (self.folder / "t.json").unlink()
        return tokenizer

    def _sharded(self, source: Path, target: Path) -> None:
        target.mkdir()
        tensors = load_file(source / "model.safetensors")
        where = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
        for file in set(where.values()):
            save_file({name: tensors[name] for name in tensors if where[name] == file}, target / file)
        (target / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        for name in ("config.json", "vocab.txt"):
            shutil.copy(source / name, target)

    def copy(self, name: str, target: Path) -> Path:
        """Return the path of a fresh copy: of its folder, or of the file in it."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.folder / name, target)
        return target / "m.pth" if (target / "m.pth").is_file() else target


def forge_json(path: Path, dice: random.Random) -> None:
    """Give random fields of a JSON file odd values."""
    document = json.loads(path.read_bytes())
    for _ in range(dice.choice((1, 1, 3))):
        *way, key = dice.choice(list(places(document))[1:])
        inner = document
        for step in way:
            inner = inner[step]
        if dice.random() < 0.2 and isinstance(key, str):
            inner[dice.choice(WORDS)] = inner.pop(key)
        else:
            inner[key] = dice.choice(EPSILONS) if "eps" in str(key) else odd(dice)
        if not isinstance(document, dict):
            break
    text = json.dumps(document) if dice.random() < 0.9 else '{"a":' * dice.choice((100, 100_000))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def forge_header(path: Path, dice: random.Random) -> None:
    """Let the header of a safetensors file lie."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(dice.choice((1, 1, 2, 8))):
        name = dice.choice(list(header) or [""])
        match dice.randrange(5):
            case 0:
                header[name] = odd(dice)
            case 1:
                header[forged_name(name, dice)] = header.pop(name, None)
            case 2:
                header |= {forged_name(name, dice): header.get(name) for _ in range(20)}
            case 3:
                header.pop(name, None)
            case _ if isinstance(header.get(name), dict):
                forge_entry(header[name], dice)
    if dice.random() < 0.1:
        header["__metadata__"] = odd(dice)
    raw = json.dumps(header).encode("utf-8", "surrogatepass")
    lies = (0, 1, len(raw) - 1, 10**8, 2**40, 2**63, 2**64 - 1)
    size = len(raw) if dice.random() < 0.85 else dice.choice(lies)
    path.write_bytes(size.to_bytes(8, "little") + raw + values)


def forge_entry(entry: dict[str, Any], dice: random.Random) -> None:
    """Let the header of one tensor lie."""
    shape = entry.get("shape")
    match dice.randrange(5):
        case 0:
            entry[dice.choice(("dtype", "shape", "data_offsets", "x"))] = odd(dice)
        case 1 if isinstance(shape, list):
            entry["shape"] = [dice.choice((*SIZES, size)) for size in shape]
        case 2 if isinstance(shape, list):
            entry["shape"] = [*shape, 1] if dice.random() < 0.5 else shape[::-1]
        case 3:
            entry["data_offsets"] = [dice.choice((0, -4, 4, 10**9, 2**63, 10**30)) for _ in range(2)]
        case _:
            entry["dtype"] = dice.choice(("F64", "BF16", "F8_E4M3", "F4", "C64", "BOOL", "I64", "F99"))


def forged_name(name: str, dice: random.Random) -> str:
    """Return a tensor's name with another block number, a prefix, or another name."""
    parts = name.split(".")
    numbers = [at for at, part in enumerate(parts) if part.isdigit()]
    if numbers and dice.random() < 0.6:
        parts[numbers[0]] = dice.choice((*BLOCKS, str(dice.randrange(3000))))
        return ".".join(parts)
    return dice.choice((f"module.{name}", f"_orig_mod.{name}", f"model.{name}", dice.choice(WORDS)))


def forge_pickle(data: bytes, dice: random.Random) -> bytes:
    """Change steps of a pickle: odd ones inserted, some left out or repeated, numbers and names replaced."""
    steps = [position or 0 for _, _, position in pickletools.genops(data)]
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, to = sorted(dice.choice(steps) for _ in range(2))
        match dice.randrange(6):
            case 0:
                data = data[:at] + dice.choice(PICKLED) + data[at:]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:to] + data[at:to] * dice.choice((1, 2, 50)) + data[to:]
            case 3:
                block = f"blocks.{dice.choice((*BLOCKS[:2], '77', 'x'))}.".encode()
                old, new = b"blocks.1.", block[:9].ljust(9, b"9")
                data = data.replace(old, new, dice.choice((1, 1000)))
            case 4:
                data = data.replace(
                    b"K\x10", dice.choice((b"K\x00", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f")), 3
                )
            case _:
                names = (b"HalfStorage", b"ByteStorage", b"UntypedStorage", b"LongStorage", b"XxxxStorage")
                data = data.replace(b"FloatStorage", dice.choice(names))
        steps = [step for step in steps if step < len(data)] or [0]
    return data


def forge_archive(path: Path, dice: random.Random) -> None:
    """Write a ``.pth``'s archive again, with a forged pickle, compressed, or with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    deflated = dice.random() < 0.2
    if dice.random() < 0.7:
        entries = [(n, forge_pickle(d, dice) if n.endswith("data.pkl") else d) for n, d in entries]
    match dice.randrange(8):
        case 0:
            entries = [(n, bytes(60 * 2**20) if n.endswith("data/1") else d) for n, d in entries]
            deflated = True
        case 1:
            entries.append(dice.choice(entries))
        case 2:
            entries.remove(dice.choice(entries))
        case 3:
            entries = [(n.replace("/", dice.choice(("//", "", "/../", "\\"))), d) for n, d in entries]
        case 4:
            entries += [(f"archive/data/{number + 1000}", b"") for number in range(dice.choice((10, 5000)))]
        case _:
            pass
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # about two entries of one name
        for name, data in entries:
            archive.writestr(name, data)


def forge_file(path: Path, dice: random.Random) -> None:
    """Put something else in place of a file."""
    content = path.read_bytes()
    path.unlink()
    match dice.randrange(9):
        case 0:
            os.mkfifo(path)
        case 1:
            path.mkdir()
        case 2:
            path.symlink_to(
                dice.choice(
                    ("/dev/zero", "/dev/stdin", "/proc/self/mem", "/etc/passwd", "nowhere", path.name)
                )
            )
        case 3:
            elsewhere = path.parent.parent / "elsewhere"
            elsewhere.write_bytes(content)
            path.symlink_to(elsewhere)
        case 4:
            with path.open("wb") as file:
                file.write(content[: dice.randrange(len(content))])
                file.truncate(dice.choice((10**7, 10**9, 10**11)))
        case 5:
            path.write_bytes(content[: dice.randrange(len(content))])
        case 6:
            path.write_bytes(
                dice.choice((b"", b"\0" * 20_000_000, b"9" * 9_000_000, b"[" * 9_000_000, b"{" * 100))
            )
        case 7:
            path.write_bytes(content * 2)
        case _:
            path.write_bytes(dice.choice((b"\xff\xfe", b"\xef\xbb\xbf")) + content)


def forge_vocabulary(path: Path, dice: random.Random) -> None:
    """Give lines of a vocabulary file odd ids, tokens and lengths."""
    lines = path.read_text(encoding="utf-8").split("\n")
    for _ in range(dice.choice((1, 3))):
        at = dice.randrange(len(lines))
        token = dice.choice(
            (
                "'a'",
                "b'\\xff'",
                "'" + "x" * 10**6 + "'",
                "(" * 10**5,
                "1" * 10**5,
                "{}",
                "'\\ud800'",
                "f'{1}'",
            )
        )
        number = dice.choice(("0", "1", "-1", "319", "320", str(10**18), "9" * 5000, "x", "٣"))
        lines[at] = f"{number} {token} {dice.choice(('1', '0', '9' * 5000, 'x'))}"
    path.write_bytes("\n".join(lines).encode())


def forge(path: Path, dice: random.Random) -> None:
    """Forge one file of a model, or two."""
    files = (
        [path, *path.parent.glob("*.json"), *path.parent.glob("*.txt")]
        if path.is_file()
        else [*path.iterdir()]
    )
    for file in dice.sample(files, min(len(files), dice.choice((1, 1, 1, 2)))):
        kind, name = dice.random(), file.name
        if kind < 0.12:
            forge_file(file, dice)
        elif kind < 0.25:
            file.write_bytes(damaged_bytes(file.read_bytes(), dice))
        elif name.endswith(".json"):
            forge_json(file, dice)
        elif name.endswith(".txt"):
            forge_vocabulary(file, dice)
        elif name.endswith(".safetensors"):
            forge_header(file, dice)
        elif zipfile.is_zipfile(file):
            forge_archive(file, dice)
        else:
            file.write_bytes(forge_pickle(file.read_bytes()[:20_000], dice) + file.read_bytes()[20_000:])
