"""Hugging Face tokenizers: small ones pass the conformance checks, unsuitable ones are refused."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from sttx_core.checks import check_tokenizer
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer, Tokenizer, TrieTokenizer, create_vocab_file
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer, load_tokenizer

TEXTS = ["the cat returns the hat; def f(the): return the naïve café  \n", "日本 and 日本語\r\n"] * 20
END = "<|endoftext|>"


def byte_level(**options) -> Backend:
    """Train a tokenizer like GPT-2's on a few words."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = options.pop("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False))
    backend.decoder = decoders.ByteLevel()
    alphabet = options.pop("alphabet", pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=[END], initial_alphabet=alphabet, show_progress=False, **options
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def with_fallback(merges=(("t", "h"), ("th", "e")), words=("t", "h", "e", "th", "the", "é"), **options):
    """Make a tokenizer whose vocabulary is text, with a token for each byte besides."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    names = options.pop("names", names)
    vocabulary = {name: position for position, name in enumerate(["<unk>", *names, *words])}
    model = models.BPE(vocabulary, list(merges), unk_token="<unk>", byte_fallback=True, **options)
    return Backend(model)


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes a tokenizer, changed in its JSON, and gives the path."""

    def write(backend: Backend, change=lambda content: None) -> Path:
        content = json.loads(backend.to_str())
        change(content)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def cut_before_bytes() -> pre_tokenizers.PreTokenizer:
    words = pre_tokenizers.Split(Regex(r" ?\p{L}+|\s+|[^\s\p{L}]+"), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([words, pre_tokenizers.Digits(individual_digits=True), as_bytes])


def with_added() -> Backend:
    backend = byte_level()
    backend.add_tokens(["  ", AddedToken("def f", normalized=True), AddedToken("the", single_word=True)])
    backend.add_special_tokens([AddedToken("<|user|>", lstrip=True, rstrip=True)])
    return backend


def with_extras() -> Backend:
    backend = byte_level()
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{END} $A {END}", special_tokens=[(END, 0)]
    )
    return backend


KINDS = {
    "byte level": byte_level,
    "cut before bytes": lambda: byte_level(pre_tokenizer=cut_before_bytes()),
    "added tokens": with_added,
    "truncation, padding, template": with_extras,
    "byte fallback": with_fallback,
}


@pytest.mark.parametrize("kind", KINDS)
def test_conformance(kind, saved):
    path = saved(KINDS[kind]())
    assert isinstance(HuggingFaceTokenizer(path), Tokenizer)
    check_tokenizer(lambda: HuggingFaceTokenizer(path))


def test_ids_are_the_files_own(saved):
    backend = byte_level()
    tokenizer = HuggingFaceTokenizer(saved(backend))
    ids = tokenizer.encode("return the cat")
    assert ids == backend.encode("return the cat").ids
    assert len(ids) < len("return the cat") / 2
    assert tokenizer.vocab_size == backend.get_vocab_size()
    assert tokenizer.token_bytes(backend.token_to_id("Ġthe")) == b" the"
    with pytest.raises(UsageError, match=f"id {tokenizer.vocab_size} is not in the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])


def test_special_tokens_in_a_text_are_text(saved):
    tokenizer = HuggingFaceTokenizer(saved(with_extras()))
    ids = tokenizer.encode(f"{END}{END} a")
    assert tokenizer.eot_id == 0 not in ids
    assert tokenizer.decode(ids) == f"{END}{END} a"
    assert tokenizer.token_bytes(0) == b""


def test_bytes_that_are_not_text_are_single_tokens(saved):
    tokenizer = HuggingFaceTokenizer(saved(byte_level()))
    ids = tokenizer.encode_bytes(b"the\xff\xfethe")
    the = tokenizer.encode("the")
    assert ids == [*the, tokenizer.encode_bytes(b"\xff")[0], tokenizer.encode_bytes(b"\xfe")[0], *the]


def test_fallback_to_bytes_only_for_text_without_a_token(saved):
    tokenizer = HuggingFaceTokenizer(saved(with_fallback()))
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("theé à")] == [
        *(b"the", "é".encode(), b" "),
        *(b"\xc3", b"\xa0"),
    ]
    assert tokenizer.decode(tokenizer.encode("<0x41>")) == "<0x41>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> HuggingFaceTokenizer:
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    with_added().save(str(path))
    return HuggingFaceTokenizer(path)


@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(tokenizer, data):
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


@given(text=st.text(st.characters(codec=None) | st.sampled_from(f" \nthedf{END}日"), max_size=60))
def test_any_text_comes_back(tokenizer, text):
    clean = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert tokenizer.decode(tokenizer.encode(text)) == clean


def test_a_tokenizer_can_be_saved_and_copied(saved, tmp_path):
    tokenizer = HuggingFaceTokenizer(saved(with_added()))
    tokenizer.save(tmp_path / "again.json")
    others = [HuggingFaceTokenizer(tmp_path / "again.json"), copy.deepcopy(tokenizer)]
    for other in (*others, pickle.loads(pickle.dumps(tokenizer))):
        assert other.sha256 == tokenizer.sha256
        assert other.encode(f"def f(the): {END}") == tokenizer.encode(f"def f(the): {END}")


def test_the_hash_depends_on_the_vocabulary(saved):
    digests = [HuggingFaceTokenizer(saved(make())).sha256 for make in (byte_level, with_added, with_fallback)]
    assert len({*digests, ByteTokenizer().sha256}) == 4


def normalized():
    backend = byte_level()
    backend.normalizer = normalizers.NFC()
    return backend


def before(step) -> Backend:
    backend = byte_level()
    backend.pre_tokenizer = step
    return backend


def swallowing():
    backend = byte_level()
    backend.add_tokens([AddedToken("<tag>", lstrip=True)])
    return backend


def ambiguous():
    backend = byte_level()
    backend.add_tokens(["Ġthe"])
    return backend


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
REFUSED = {
    "normalizer": (normalized, r"its normalizer \(NFC\) changes the text"),
    "prefix space": (
        lambda: before(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "puts a space before the text",
    ),
    "metaspace": (lambda: before(pre_tokenizers.Metaspace()), r"\(Metaspace\) does not keep every character"),
    "whitespace": (
        lambda: before(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), BYTE_LEVEL])),
        r"\(Whitespace\) does not keep",
    ),
    "removing split": (
        lambda: before(pre_tokenizers.Sequence([pre_tokenizers.Split("\n", "removed"), BYTE_LEVEL])),
        r"\(Split\) does not keep",
    ),
    "bytes twice": (
        lambda: before(pre_tokenizers.Sequence([BYTE_LEVEL, BYTE_LEVEL])),
        "spells bytes as characters twice",
    ),
    "no bytes": (
        lambda: before(pre_tokenizers.Digits()),
        "neither a byte-level alphabet nor a byte fallback",
    ),
    "some bytes": (
        lambda: byte_level(alphabet=[]),
        r"no token for 2\d\d of the 256 bytes \(0x00 is the first\)",
    ),
    "some fallback": (
        lambda: with_fallback(names=[f"<0x{byte:02X}>" for byte in range(255)]),
        r"no token for 1 of the 256 bytes \(0xff is",
    ),
    "merged fallback": (
        lambda: with_fallback([("<0x41>", "<0x42>")], ["<0x41><0x42>"]),
        "can encode the text '<0x0A>' as",
    ),
    "whole fallback": (lambda: with_fallback(ignore_merges=True), "can encode the text '<0x0A>' as"),
    "dropout": (lambda: with_fallback(dropout=0.1), "skips merges at random"),
    "word ends": (lambda: byte_level(end_of_word_suffix="</w>"), "writes '</w>' into its tokens"),
    "word pieces": (
        lambda: Backend(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")),
        "its model is WordPiece",
    ),
    "swallowing token": (swallowing, "'<tag>' removes the spaces"),
    "ambiguous token": (ambiguous, "'Ġthe' stands for b' the' as well"),
}


def test_an_id_beyond_any_vocabulary_is_refused_at_once(saved):
    path = saved(byte_level())
    content = json.loads(path.read_text())
    content["model"]["vocab"]["Ġ"] = 2**31  # the library would count up to it
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has the id 2147483648, more than any vocabulary: give another one"):
        HuggingFaceTokenizer(path)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tokenizer_that_loses_bytes_is_refused(kind, saved):
    make, complaint = REFUSED[kind]
    path = saved(make())
    with pytest.raises(DataError, match=complaint) as caught:
        HuggingFaceTokenizer(path)
    assert str(caught.value).startswith(f"tokenizer {str(path)!r} loses some byte strings: it")
    assert str(caught.value).endswith("; give another one, or make one with `sttx vocab`")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff", "is not UTF-8"),
        (b"{}", "not a tokenizer.json of Hugging Face's"),
        (b"", "not a tokenizer.json of"),
    ],
)
def test_files_that_are_not_a_tokenizer(tmp_path, content, complaint):
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        HuggingFaceTokenizer(tmp_path / "t.json")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot read the tokenizer"):
        HuggingFaceTokenizer(tmp_path)


def test_every_tokenizer_has_a_spec(saved, tmp_path):
    path = saved(byte_level())
    assert isinstance(load_tokenizer(f"hf:{path}"), HuggingFaceTokenizer)
    assert load_tokenizer(f"hf+1:{path}").sha256 == HuggingFaceTokenizer(path, shifted=True).sha256
    create_vocab_file(["the"], tmp_path / "v.txt")
    for spec in (f"trie:{tmp_path / 'v.txt'}", tmp_path / "v.txt"):
        assert isinstance(load_tokenizer(spec), TrieTokenizer)
    assert isinstance(load_tokenizer("integer:7"), IntegerTokenizer)
    with pytest.raises(UsageError, match="'absent.json' is not a file: give the path of a tokenizer.json"):
        load_tokenizer("hf:absent.json")
    with pytest.raises(UsageError, match="'gpt2' is neither a tokenizer nor a file"):
        load_tokenizer("gpt2")
