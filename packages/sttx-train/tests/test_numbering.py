"""Ids of the `tokenizers` library mean the same here: in files of ids, and for a model trained on them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from sttx_core.checks import check_tokenizer
from sttx_core.errors import DataError, UsageError
from sttx_core.tokenizers import ByteTokenizer, IntegerTokenizer, TrieTokenizer, create_vocab_file
from sttx_train.data.description import describe
from sttx_train.data.documents import Packed
from sttx_train.data.mmididx import write_pair
from sttx_train.data.reader import open_data
from sttx_train.formats import load_model, save_model
from sttx_train.formats.numbering import end_of_text
from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer, load_tokenizer
from sttx_train.pretrain import PretrainConfig, Pretrainer

WORDS = ["the owl hoots at the moon!", "a naïve cafe\n\n  opens", "!", "the end 日本"]


def byte_level(*specials: str, vocab_size: int = 300) -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(WORDS * 5, trainer)
    return backend


def end_last() -> Backend:
    """Number like GPT-2: id 0 is an ordinary token, and the end-of-text token comes last."""
    backend = byte_level()
    backend.add_special_tokens(["<|endoftext|>"])
    return backend


def added() -> Backend:
    backend = byte_level("<pad>", "<s>", "</s>")
    backend.add_tokens(["owl hoots", AddedToken("  ", normalized=False)])
    backend.add_special_tokens(["<|im_start|>"])
    return backend


def fallback() -> Backend:
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "t", "h", "e", "th", "the"]
    vocabulary = {name: number for number, name in enumerate(names)}
    model = models.BPE(vocabulary, [("t", "h"), ("th", "e")], unk_token="<unk>", byte_fallback=True)
    return Backend(model)


KINDS = {
    "end of text first": (lambda: byte_level("<|endoftext|>"), "<|endoftext|>"),
    "end of text last": (end_last, "<|endoftext|>"),
    "several special and added tokens": (added, "</s>"),
    "no end of text": (byte_level, None),
    "byte fallback": (fallback, "</s>"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """The library's tokenizer, ours from the same file, and the id that ends a text."""
    make, end = KINDS[request.param]
    backend = make()
    path = tmp_path_factory.mktemp("hf") / "tokenizer.json"
    backend.save(str(path))
    eot_id = len(backend.get_vocab()) if end is None else backend.token_to_id(end)
    return backend, HuggingFaceTokenizer(path), eot_id


def texts_of(data, tokenizer) -> list[str]:
    documents = data.documents
    read = [documents.read(at, 0, length).tolist() for at, length in enumerate(documents.lengths.tolist())]
    assert all(ids[0] == tokenizer.eot_id for ids in read)
    assert [token_id for ids in read for token_id in ids] == documents.read_many(0, len(read)).tolist()
    return [tokenizer.decode(ids) for ids in read]


def test_ids_are_the_librarys(kind):
    backend, tokenizer, eot_id = kind
    assert tokenizer.eot_id == eot_id and str(eot_id) in tokenizer.numbering
    for word in WORDS:
        assert tokenizer.encode(word) == backend.encode(word, add_special_tokens=False).ids
    check_tokenizer(lambda: tokenizer)


def megatron_pair(path: Path, documents: list[list[int]], eot_id: int, *, mark: bool, width: str) -> Path:
    """Write a pair as Megatron's preprocessing does, with this test's own code."""
    ids = [[*document, eot_id] if mark else document for document in documents]
    sizes = np.array([len(document) for document in ids])
    flat = np.array([token_id for document in ids for token_id in document], width)
    code = {"<u2": 8, "<i4": 4}[width]
    flat.tofile(path.with_suffix(".bin"))
    header = b"MMIDIDX\0\0" + (1).to_bytes(8, "little") + bytes([code])
    header += len(ids).to_bytes(8, "little") + (len(ids) + 1).to_bytes(8, "little")
    offsets = (np.cumsum(sizes) - sizes) * flat.itemsize
    body = sizes.astype("<i4").tobytes() + offsets.astype("<i8").tobytes()
    path.with_suffix(".idx").write_bytes(header + body + np.arange(len(ids) + 1, dtype="<i8").tobytes())
    return path


def test_files_of_the_librarys_ids_give_its_texts(kind, tmp_path):
    backend, tokenizer, eot_id = kind
    ids = [backend.encode(word, add_special_tokens=False).ids for word in WORDS]
    leading = [token_id for document in ids for token_id in [eot_id, *document]]
    trailing = [token_id for document in ids for token_id in [*document, eot_id]]
    files = [
        megatron_pair(tmp_path / f"{number}", ids, eot_id, mark=mark, width=width)
        for number, (mark, width) in enumerate([(True, "<u2"), (False, "<u2"), (True, "<i4"), (False, "<i4")])
    ]
    for name, row in {"leading": leading, "trailing": trailing}.items():
        for width in ("<u2", "<u4", "<i4", "<i8"):
            files.append(tmp_path / f"{name}{width[1:]}.bin")
            np.array(row, width).tofile(files[-1])
            files.append(tmp_path / f"{name}{width[1:]}.npy")
            np.save(files[-1], np.array(row, width))
    for name, wrap in {"bare": list, "keyed": lambda row: {"input_ids": row}}.items():
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps(wrap(row)) + "\n" for row in ids))
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps([wrap(row) for row in ids], indent=1))
    for file in files:
        assert texts_of(open_data([file], tokenizer), tokenizer) == WORDS, file.name
        report = describe(file, tokenizer)
        assert (report["documents"], report["first"]["decoded"]) == (len(WORDS), WORDS[0]), file.name


def test_a_pair_that_is_written_reads_back_and_ends_documents_as_the_file_does(kind, tmp_path):
    _, tokenizer, eot_id = kind
    data = open_data([], tokenizer, texts=WORDS)
    write_pair(data.documents, tmp_path / "pair", vocab_size=tokenizer.vocab_size, eot_id=eot_id)
    assert texts_of(open_data([tmp_path / "pair"], tokenizer), tokenizer) == WORDS
    stored = np.fromfile(tmp_path / "pair.bin", "<u2").tolist()
    assert stored.count(eot_id) == len(WORDS) and stored[-1] == eot_id


def test_rows_are_documents_and_may_hold_several(tmp_path):
    path = tmp_path / "t.json"
    end_last().save(str(path))
    tokenizer = HuggingFaceTokenizer(path)
    a, b = tokenizer.encode("!"), tokenizer.encode("the")
    np.save(tmp_path / "x.npy", np.array([[*a, tokenizer.eot_id, *b], [*b, *b, *b]]))
    said: list[str] = []
    data = open_data([tmp_path / "x.npy"], tokenizer, say=said.append)
    assert texts_of(data, tokenizer) == ["!", "the", "thethethe"]
    assert len(said) == 1 and "read as ids of the vocabulary" in said[0]


def test_a_published_model_gets_the_ids_that_it_was_trained_on(kind, make_model, tmp_path):
    backend, tokenizer, eot_id = kind
    model = make_model(vocab_size=tokenizer.vocab_size)
    save_model(model, tmp_path / "model", format="huggingface")
    backend.save(str(tmp_path / "model" / "tokenizer.json"))
    loaded = load_model(tmp_path / "model")
    of_library = torch.tensor([backend.encode(WORDS[0], add_special_tokens=False).ids])
    of_ours = torch.tensor([loaded.tokenizer.encode(WORDS[0])])
    assert torch.equal(loaded.model(of_ours)[0], model.eval()(of_library)[0])
    trainer = Pretrainer(PretrainConfig(ctx=8, batch=2, steps=2), start=tmp_path / "model")
    assert trainer.tokenizer is not None and trainer.tokenizer.eot_id == eot_id
    trainer.fit(open_data([], trainer.tokenizer, texts=WORDS))
    trainer.save_model(tmp_path / "out")
    assert load_model(tmp_path / "out").vocabulary.sha256 == tokenizer.sha256
    save_model(model, tmp_path / "published", format="huggingface", tokenizer=tokenizer)
    config = json.loads((tmp_path / "published" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (eot_id, eot_id)


def test_the_state_starts_again_at_the_vocabularys_own_mark(make_model, tmp_path):
    """Training on documents with another end-of-text id costs the same as with that id moved to 0."""
    backend = end_last()
    backend.save(str(tmp_path / "t.json"))
    tokenizer = HuggingFaceTokenizer(tmp_path / "t.json")
    end = tokenizer.eot_id
    own, swapped = make_model(vocab_size=tokenizer.vocab_size), make_model(vocab_size=tokenizer.vocab_size)
    order = np.arange(tokenizer.vocab_size)
    order[[0, end]] = end, 0
    swapped.load_state_dict(own.state_dict())
    with torch.no_grad():
        for weight in (swapped.emb.weight, swapped.head.weight):
            weight.copy_(weight[torch.from_numpy(order)].clone())
    data = open_data([], tokenizer, texts=WORDS).documents
    moved = Packed(order[data.read_many(0, len(data.lengths))])
    config, losses = PretrainConfig(ctx=8, batch=2, steps=3), []
    for name, model, documents, known in (
        ("own", own, data, tokenizer),
        ("swapped", swapped, moved, IntegerTokenizer(tokenizer.vocab_size - 2)),
    ):
        save_model(model, tmp_path / name, tokenizer=known)
        losses.append([step.loss for step in Pretrainer(config, start=tmp_path / name).steps(documents)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("special", "vocabulary", "expected"),
    [
        (["<|im_end|>", "<|endoftext|>"], [], "<|endoftext|>"),
        (["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], [], "<｜end▁of▁sentence｜>"),
        (["<s>", "</s>", "<unk>"], [], "</s>"),
        (["<bos>", "<eos>", "<pad>"], [], "<eos>"),
        (["[PAD]", "[EOS]"], [], "[EOS]"),
        (["<s>", "<pad>"], [], None),
        (["<unk>"], ["<eod>"], "<eod>"),
        ([], ["eos", "end"], None),
        ([], [], None),
    ],
)
def test_the_end_of_text_token_is_known_by_its_name(special, vocabulary, expected):
    names = ["a", *special, *vocabulary]
    ids = {name: number for number, name in enumerate(names)}
    tokens = [{"id": ids[name], "content": name, "special": True} for name in special]
    found = end_of_text({"model": {"vocab": ids, "merges": []}, "added_tokens": tokens})
    assert found == ((len(names), None) if expected is None else (ids[expected], expected))


def test_a_name_that_text_can_encode_to_ends_nothing():
    model = {"vocab": {"<": 0, "eos>": 1, "<eos>": 2}, "merges": [["<", "eos>"]]}
    assert end_of_text({"model": model, "added_tokens": []}) == (3, None)
    plain = {"id": 2, "content": "<eos>", "special": False}
    assert end_of_text({"model": {**model, "merges": []}, "added_tokens": [plain]}) == (3, None)


def test_a_pair_of_an_earlier_version_is_not_read_with_the_files_own_ids(tmp_path):
    path = tmp_path / "t.json"
    byte_level("<|endoftext|>").save(str(path))
    earlier, now = load_tokenizer(f"hf+1:{path}"), load_tokenizer(f"hf:{path}")
    data = open_data([], earlier, texts=WORDS)
    write_pair(data.documents, tmp_path / "p", vocab_size=earlier.vocab_size, identity=earlier.sha256)
    for read in (lambda: open_data([tmp_path / "p"], now), lambda: describe(tmp_path / "p", now)):
        with pytest.raises(UsageError, match=r"added 1 to the ids .* give --tokenizer hf\+1:FILE"):
            read()
    assert texts_of(open_data([tmp_path / "p"], earlier), earlier) == WORDS


def test_numbers_are_ids_only_of_a_vocabulary_that_others_use(tmp_path):
    np.save(tmp_path / "x.npy", np.array([1, 2, 0, 3]))
    create_vocab_file(["the"], tmp_path / "v.txt")
    trie = TrieTokenizer(tmp_path / "v.txt")
    assert open_data([tmp_path / "x.npy"], trie).documents.lengths.tolist() == [3, 2]
    with pytest.raises(UsageError, match="holds numbers, but the tokenizer is one of text"):
        open_data([tmp_path / "x.npy"], ByteTokenizer())


@pytest.mark.parametrize("number", [-1, 10**6, 2**70])
def test_a_list_of_ids_names_the_line_of_a_wrong_one(tmp_path, number):
    create_vocab_file(["the"], tmp_path / "v.txt")
    (tmp_path / "x.jsonl").write_text(f"[1, 2]\n[3, {number}]\n")
    with pytest.raises(DataError, match=f"line 2 of .*x.jsonl' holds the id {number}"):
        open_data([tmp_path / "x.jsonl"], TrieTokenizer(tmp_path / "v.txt"))


@pytest.mark.parametrize("model", [models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"), models.Unigram()])
def test_other_models_than_bpe_are_refused_by_name(tmp_path, model):
    Backend(model).save(str(tmp_path / "t.json"))
    with pytest.raises(DataError, match=f"its model is {type(model).__name__}, but only BPE"):
        HuggingFaceTokenizer(tmp_path / "t.json")
