"""Tokenizers: conformance, the fast matcher against a slow twin, and vocabulary files with their errors."""

import copy
import pickle
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.checks import check_tokenizer
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import (
    AngleTokenizer,
    ByteTokenizer,
    IntegerTokenizer,
    Tokenizer,
    TrieTokenizer,
    create_vocab_file,
    require_text,
    tokenizer_from_spec,
)

SINGLES = [bytes([value]) for value in range(256)]
WORDS = [
    *(b"the", b" the", b" then", b"return", b" return", b"\n\n", b"def ", b"User: ", b"Assistant: "),
    *(
        " é".encode(),
        "日本".encode(),
        "日本語".encode(),
        b"\xe6\x97",
        b"\xff\xfe\xfd",
        b"'",
        b"\"'",
        b"\\",
        b"\r\n",
    ),
    *(b" " * length for length in range(2, 129)),
    *(b"=" * length for length in (4, 8, 16, 32, 64)),
]


def distinct(tokens):
    return list(dict.fromkeys(tokens))


@pytest.fixture
def vocabulary(tmp_path) -> Path:
    path = tmp_path / "vocabulary.txt"
    create_vocab_file(distinct([*SINGLES, *WORDS]), path)
    return path


def longest_match(ids_of, data):
    """The definition, slow: at each position the longest token that matches."""
    longest = max(map(len, ids_of))
    ids, at = [], 0
    while at < len(data):
        length = next(n for n in range(min(longest, len(data) - at), 0, -1) if data[at : at + n] in ids_of)
        ids.append(ids_of[data[at : at + length]])
        at += length
    return ids


@pytest.mark.parametrize("piece", [1, 2, 7, 130, 1000])
def test_a_long_text_is_encoded_in_pieces_to_the_same_ids(vocabulary, monkeypatch, piece):
    tokenizer, dice = TrieTokenizer(vocabulary), random.Random(piece)
    ids_of = {tokenizer.token_bytes(token_id): token_id for token_id in range(1, tokenizer.vocab_size)}
    texts = [b"".join(dice.choices([*WORDS, *SINGLES], k=60)) for _ in range(8)]
    texts += [b" " * 1000, b"=" * 999, b"", b"\xe6" * 300]
    seen, find_all = [], tokenizer._find_all
    monkeypatch.setitem(
        vars(tokenizer),
        "_find_all",
        lambda data, start, end: seen.append(end - start) or find_all(data, start, end),
    )
    monkeypatch.setattr("sttx_core.tokenizers.trie._PIECE", piece)
    for data in texts:
        assert tokenizer.encode_bytes(data) == longest_match(ids_of, data)
    assert max(seen) == piece + 128, "no call of the regex engine sees more: others run in between"


@pytest.mark.parametrize("name", ["bytes", "trie", "single bytes only", "loaded"])
def test_conformance(name, vocabulary, tmp_path):
    create_vocab_file(SINGLES, tmp_path / "singles.txt")
    factories = {
        "bytes": ByteTokenizer,
        "trie": lambda: TrieTokenizer(vocabulary),
        "single bytes only": lambda: TrieTokenizer(tmp_path / "singles.txt"),
        "loaded": lambda: tokenizer_from_spec(str(vocabulary)),
    }
    assert isinstance(factories[name](), Tokenizer)
    check_tokenizer(factories[name])


class Drops(ByteTokenizer):
    def encode_bytes(self, data):
        return [token_id for token_id in super().encode_bytes(data) if token_id != 14]


class Strips(ByteTokenizer):
    def encode(self, text):
        return super().encode(text.strip())


class OffByOne(ByteTokenizer):
    vocab_size = 256


class GivesUnknown(ByteTokenizer):
    def token_bytes(self, token_id):
        return b"?" if token_id > 256 else super().token_bytes(token_id)


class Panics(ByteTokenizer):
    def encode(self, text):
        return self.encode_bytes(text.encode("utf-8", "replace"))


class Nameless(ByteTokenizer):
    @property
    def sha256(self):
        return "unknown"


class MarksDocuments(ByteTokenizer):
    def encode_bytes(self, data):
        return [0, *super().encode_bytes(data)]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Drops, "came back as"),
        (Strips, "encode and encode_bytes differ"),
        (OffByOne, "vocab_size"),
        (GivesUnknown, "instead of raising"),
        (Panics, "lone surrogate"),
        (Nameless, "hexadecimal"),
        (MarksDocuments, "are not all in 1 to"),
        (object, "object has neither all methods of Tokenizer nor all of ValueTokenizer"),
    ],
)
def test_the_check_catches_a_broken_tokenizer(broken, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_tokenizer(broken)


def test_byte_ids_are_shifted_by_one():
    tokenizer = ByteTokenizer()
    assert tokenizer.encode_bytes(b"\x00\xff") == [1, 256]
    assert tokenizer.vocab_size == 257
    with pytest.raises(UsageError, match="1 to 256"):
        tokenizer.decode_bytes([257])


def test_ids_are_file_ids_and_match_is_longest(vocabulary):
    tokenizer = TrieTokenizer(vocabulary)
    tokens = distinct([*SINGLES, *WORDS])
    assert tokenizer.vocab_size == len(tokens) + 1
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode(" then the")] == [b" then", b" the"]
    assert tokenizer.encode("日本語") == [tokens.index("日本語".encode()) + 1]
    with pytest.raises(UsageError, match=f"id {len(tokens) + 1} is not in the vocabulary"):
        tokenizer.decode([len(tokens) + 1])


small_alphabet = st.binary(max_size=30) | st.text("ab\n é日", max_size=60).map(str.encode)


@settings(deadline=None)
@given(st.lists(st.text("ab\n é", min_size=2, max_size=8).map(str.encode), max_size=30), small_alphabet)
def test_the_pattern_agrees_with_its_slow_twin(tmp_path_factory, words, data):
    path = tmp_path_factory.getbasetemp() / "twin.txt"
    tokens = distinct([*SINGLES, *words])
    create_vocab_file(tokens, path)
    ids_of = {token: position for position, token in enumerate(tokens, start=1)}
    assert TrieTokenizer(path).encode_bytes(data) == longest_match(ids_of, data)


def test_nested_tokens_deeper_than_the_regex_compiler_can_recurse(tmp_path):
    chain = [b"ab" * (length // 2) + b"a" * (length % 2) for length in range(2, 900)]
    side = [token + b"!" for token in chain[::7]] + [token + b"!?" for token in chain[::11]]
    tokens = distinct([*SINGLES, *chain, *side])
    create_vocab_file(tokens, tmp_path / "deep.txt")
    tokenizer = TrieTokenizer(tmp_path / "deep.txt")
    ids_of = {token: position for position, token in enumerate(tokens, start=1)}
    draw = random.Random(1)
    for _ in range(20):
        data = b"".join(draw.choice(tokens) for _ in range(5))
        assert tokenizer.encode_bytes(data) == longest_match(ids_of, data)


@given(st.text())
def test_bytes_round_trip_any_text(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> TrieTokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    create_vocab_file(distinct([*SINGLES, *WORDS]), path)
    return TrieTokenizer(path)


@given(data=st.binary(max_size=200))
def test_the_trie_round_trips_any_bytes(tokenizer, data):
    ids = tokenizer.encode_bytes(data)
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


@given(text=st.text(st.characters(codec=None) | st.sampled_from(" \n=é日本語"), max_size=60))
def test_the_trie_round_trips_any_text(tokenizer, text):
    clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert tokenizer.decode(tokenizer.encode(text)) == clean


@pytest.mark.parametrize("kind", ["bytes", "trie"])
def test_ids_may_be_any_sequence(tokenizer, kind):
    either = ByteTokenizer() if kind == "bytes" else tokenizer
    ids = either.encode("User: the end")
    for given_ids in (tuple(ids), iter(ids), np.array(ids), np.array(ids, np.int32)):
        assert either.decode(given_ids) == "User: the end"


@pytest.mark.parametrize("unused", [True, False])
def test_a_tokenizer_can_be_copied_to_another_process(vocabulary, unused):
    tokenizer = TrieTokenizer(vocabulary)
    expected = TrieTokenizer(vocabulary).encode("then the end")
    if not unused:
        tokenizer.encode("the")
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):
        assert other.encode("then the end") == expected
        assert other.sha256 == tokenizer.sha256


def test_the_first_encoding_may_happen_in_several_threads(vocabulary):
    tokenizer = TrieTokenizer(vocabulary)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(tokenizer.encode("User: the end"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [TrieTokenizer(vocabulary).encode("User: the end")] * 8


def test_saving_gives_the_same_vocabulary(vocabulary, tmp_path):
    tokenizer = TrieTokenizer(vocabulary)
    tokenizer.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == vocabulary.read_bytes()
    assert TrieTokenizer(tmp_path / "again.txt").sha256 == tokenizer.sha256


def test_sha256_is_of_the_content(vocabulary, tmp_path):
    shuffled = tmp_path / "shuffled.txt"
    lines = vocabulary.read_bytes().split(b"\n")
    shuffled.write_bytes(b"\r\n".join(reversed(lines)))
    assert TrieTokenizer(shuffled).sha256 == TrieTokenizer(vocabulary).sha256
    create_vocab_file([*reversed(SINGLES)], tmp_path / "other.txt")
    create_vocab_file(SINGLES, tmp_path / "singles.txt")
    assert TrieTokenizer(tmp_path / "other.txt").sha256 != TrieTokenizer(tmp_path / "singles.txt").sha256


def test_ids_may_have_gaps(vocabulary):
    vocabulary.write_text(vocabulary.read_text() + "5000 'gap of ids' 10\n")
    tokenizer = TrieTokenizer(vocabulary)
    assert tokenizer.vocab_size == 5001
    assert tokenizer.encode("gap of ids!")[0] == 5000
    with pytest.raises(UsageError, match="4999"):
        tokenizer.token_bytes(4999)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("7 'word' 4", "id 7 is on line 7 as well: give each its own"),
        ("9001 'the' 3", "token b'the' is on line 257 as well: remove one"),
        ("9001 'é' 1", "the token has 2 bytes, the line says 1: correct"),
        ("9001 'word'", "is not of the form `id 'token' length`: correct it"),
        ("word 'word' 4", "is not of the form `id 'token' length`"),
        ("9001 word 4", "is not a Python literal of str or bytes: write it as repr"),
        ("9001 __import__('os') 4", "is not a Python literal"),
        ("9001 'a 4", "is not a Python literal"),
        ("9001 12 2", "is not a Python literal"),
        ("9001 '\\d' 2", "is not a Python literal"),
        ("9001 '\\ud800' 3", "is not a Python literal"),
        ("9001 '' 0", "the token is empty: remove the line"),
        ("0 'word' 4", "id 0 is the end-of-text id: number the tokens from 1"),
    ],
)
def test_errors_of_a_line_are_named(vocabulary, line, complaint):
    lines = vocabulary.read_text(encoding="utf-8").rstrip("\n").split("\n")
    vocabulary.write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        TrieTokenizer(vocabulary)
    assert complaint in str(caught.value)
    assert f"{str(vocabulary)!r}, line {len(lines) + 1}: " in str(caught.value)


def test_missing_bytes_are_named(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("1 'a' 1\n2 'ab' 2\n")
    with pytest.raises(DataError, match=r"255 single bytes are missing \(0x00 0x01 .* …\): add a line"):
        TrieTokenizer(path)


@pytest.mark.parametrize(("content", "complaint"), [(b"\xff\xfe1", "not UTF-8"), (b"", "256 single bytes")])
def test_files_that_are_not_a_vocabulary_are_refused(tmp_path, content, complaint):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        TrieTokenizer(tmp_path / "file")


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        TrieTokenizer(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        ([*SINGLES, b""], "token 257 is empty"),
        ([*SINGLES, b"ab", b"a"], "b'a' is listed twice"),
        (["a", b"a"], "b'a' is listed twice"),
        (["a", ""], "token 2 is empty"),
        (["a", "\ud83d"], "token 2 is '.*', not valid Unicode"),
        (["a", 7], "token 2 is 7, neither text nor bytes"),
    ],
)
def test_create_vocab_file_refuses_invalid_tokens(tmp_path, tokens, complaint):
    with pytest.raises(UsageError, match=complaint):
        create_vocab_file(tokens, tmp_path / "v.txt")
    assert not (tmp_path / "v.txt").exists()


def test_missing_bytes_are_appended_or_refused(tmp_path):
    listed = ["the ", b"\xff\xfe", "é", "b"]
    create_vocab_file(iter(listed), tmp_path / "v.txt")
    tokenizer = TrieTokenizer(tmp_path / "v.txt")
    assert [tokenizer.token_bytes(i) for i in (1, 2, 3, 4)] == [b"the ", b"\xff\xfe", "é".encode(), b"b"]
    assert [tokenizer.token_bytes(i) for i in range(5, 260)] == [s for s in SINGLES if s != b"b"]
    check_tokenizer(lambda: TrieTokenizer(tmp_path / "v.txt"))
    with pytest.raises(UsageError, match=r"255 single bytes are missing \(0x00 .*add each of the 256"):
        create_vocab_file(listed, tmp_path / "strict.txt", add_bytes=False)
    assert not (tmp_path / "strict.txt").exists()


def test_a_vocabulary_may_have_more_ids_than_16_bits(tmp_path):
    create_vocab_file((f"<{number}>" for number in range(70_000)), tmp_path / "large.txt")
    tokenizer = TrieTokenizer(tmp_path / "large.txt")
    assert tokenizer.vocab_size == 70_257
    assert tokenizer.encode("<69999>") == [70_000]


@pytest.mark.parametrize(
    ("spec", "kind"),
    [("bytes", ByteTokenizer), ("angle", AngleTokenizer), ("integer:70000", IntegerTokenizer)],
)
def test_names_of_tokenizers(spec, kind):
    assert type(tokenizer_from_spec(spec)) is kind
    assert getattr(tokenizer_from_spec(spec), "spec", spec) == spec


def test_a_vocabulary_file_is_named_in_three_ways(vocabulary):
    digest = TrieTokenizer(vocabulary).sha256
    for spec in (f"trie:{vocabulary}", str(vocabulary), vocabulary):
        assert tokenizer_from_spec(spec).sha256 == digest


def test_a_path_is_a_file_even_if_it_is_called_bytes(vocabulary, monkeypatch):
    monkeypatch.chdir(vocabulary.parent)
    for name in ("bytes", "integer:7"):
        vocabulary.rename(name)
        assert isinstance(tokenizer_from_spec(Path(name)), TrieTokenizer)
        vocabulary = Path(name)


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("gpt2", "'gpt2' is neither a tokenizer nor a file"),
        ("trie:absent.txt", "'absent.txt' is neither a tokenizer nor a file: give 'bytes'"),
        ("trie", "'trie' is neither a tokenizer nor a file"),
        ("hf:tokenizer.json", "use sttx_train.load_tokenizer"),
        ("integer", "'integer' does not name the largest value: write it as in 'integer:255'"),
        ("integer:", "does not name the largest value"),
        ("integer:-1", "does not name the largest value"),
        ("integer:1e3", "does not name the largest value"),
        ("integer:" + "9" * 5000, "does not name the largest value"),
        ("integer:2147483646", "a whole number from 0 to 2147483645, not 2147483646"),
    ],
)
def test_unknown_specs_are_refused(spec, complaint):
    with pytest.raises(UsageError, match=complaint):
        tokenizer_from_spec(spec)


def test_a_tokenizer_of_values_is_refused_where_text_is_needed():
    text = ByteTokenizer()
    assert require_text(text) is text
    with pytest.raises(UsageError, match=r"'m' reads numbers \(integer:9\), but this needs text: choose"):
        require_text(IntegerTokenizer(9), "'m'")


def test_encoding_is_linear_on_long_runs(vocabulary):
    tokenizer = TrieTokenizer(vocabulary)
    data = (b" " * 200_000) + (b"=" * 200_000) + b"\xff" * 200_000
    tokenizer.encode_bytes(b"")
    start = time.perf_counter()
    ids = tokenizer.encode_bytes(data)
    assert time.perf_counter() - start < 60
    assert len(ids) == -(-200_000 // 128) + 200_000 // 64 + 200_000
    assert tokenizer.decode_bytes(ids) == data
