"""The published World vocabulary, compared with the author's tokenizer and a compiled one where installed."""

import importlib.util
import random
from pathlib import Path

import pytest

from sttx_core.checks import check_tokenizer
from sttx_core.tokenizers import TrieTokenizer

TEXTS = [
    "User: Please fix `utils/io.py`, it fails on Windows.\n\nAssistant: Let me look.\n\n",
    'Tool call: Bash {"command":"grep -rn \\"TODO\\" src | head -50","timeout":120000}\n\n',
    "     1→import os\n     2→\n     3→def main() -> None:\n     4→    print('hi')\t# done\r\n",
    "日本語のテキスト、中文文本，한국어 텍스트. Ελληνικά, кириллица, עברית, العربية 🧪👩‍🚀",
    "\x1b[1;31mFAILED\x1b[0m tests/test_x.py::test[a-1] - AssertionError\x00\x07",
    "-" * 500 + "=" * 333 + " " * 777 + "\n" * 20,
    "aAbBcC123456789.0e-10 https://example.org/?q=a%20b&c=d#e",
]


@pytest.fixture(scope="module")
def vocabulary() -> Path:
    """Return the file in the `rwkv` package; importing the package would load torch and build kernels."""
    package = importlib.util.find_spec("rwkv")
    if package is None or package.origin is None:
        pytest.skip("the rwkv package is not installed")
    return Path(package.origin).parent / "rwkv_vocab_v20230424.txt"


@pytest.fixture(scope="module")
def world(vocabulary) -> TrieTokenizer:
    return TrieTokenizer(vocabulary)


def samples():
    draw = random.Random(7)
    alphabet = "".join(TEXTS)
    return [*TEXTS, *("".join(draw.choices(alphabet, k=draw.randrange(400))) for _ in range(60))]


def test_it_loads_unchanged(world):
    assert world.vocab_size == 65530
    assert world.token_bytes(1) == b"\x00"
    assert world.token_bytes(261) == b"\n\n"
    assert world.token_bytes(65529) == b" " * 128


def test_it_writes_the_published_bytes(world, vocabulary, tmp_path):
    world.save(tmp_path / "world.txt")
    assert (tmp_path / "world.txt").read_bytes() == vocabulary.read_bytes().replace(b"\r\n", b"\n")


def test_conformance(world):
    check_tokenizer(lambda: world)


def test_ids_equal_those_of_the_author(world, vocabulary):
    path = vocabulary.parent / "rwkv_tokenizer.py"
    spec = importlib.util.spec_from_file_location("authors_tokenizer", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    authors = module.TRIE_TOKENIZER(str(vocabulary))
    for text in samples():
        assert world.encode(text) == authors.encode(text), text
    noise = random.Random(3).randbytes(5000)
    assert world.encode_bytes(noise) == authors.encodeBytes(noise)


def test_ids_equal_those_of_the_compiled_tokenizer(world):
    compiled = pytest.importorskip("pyrwkv_tokenizer").RWKVTokenizer()
    for text in samples():
        assert world.encode(text) == compiled.encode(text), text
