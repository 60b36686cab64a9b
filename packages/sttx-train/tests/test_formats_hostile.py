"""Forged model files are refused in one sentence: nothing is unpacked, run, waited for or read elsewhere."""

import json
import os
import pickle
import struct
import sys
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sttx_core.errors import DataError, ModelError, SttxError, UsageError
from sttx_core.tokenizers import ByteTokenizer
from sttx_train.formats import load_model, load_state, save_model, tokenizer_for
from sttx_train.formats.tensorfiles import read_infos
from sttx_train.inspect.model import inspect_model
from sttx_train.rwkv7 import RWKV7Config

resource = pytest.importorskip("resource")
posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices are files on POSIX")
cheap = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def refusal(path):
    """Return the sentence with which a model is refused, by the loader and in the report."""
    with pytest.raises(SttxError) as caught:
        load_model(path)
    try:
        report = inspect_model(path)
        assert report["problems"] or report["kind"] != "model", "refused, but without a problem"
        assert report["uses"] == []
    except SttxError:
        pass
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    return str(caught.value)


def header_of(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_header(path, header, values, length=None):
    raw = json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + values)


@pytest.fixture(scope="module")
def good(make_model, tmp_path_factory):
    """Return a folder with a tiny model of ours in `sttx`, its tensors in `m.pth`, with vocabularies."""
    folder = tmp_path_factory.mktemp("good")
    model = make_model(vocab_size=257, num_layers=2, hidden_size=16, head_size=8)
    save_model(model, folder / "sttx", tokenizer=ByteTokenizer())
    save_model(model, folder / "m.pth", format="blinkdl")
    return folder


@pytest.fixture
def ours(good, tmp_path):
    """Return a copy of a model folder of ours, with links for its weights so that each test is cheap."""
    for file in (good / "sttx").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


class TestBlockNumbers:
    @pytest.mark.parametrize(
        "number", ["99999999", "4294967296", "1" * 5000, "-1", "x", "1.5", "٣", "007", ""]
    )
    @pytest.mark.parametrize("kind", ["sttx", "pth"])
    def test_they_cost_nothing_and_are_refused(self, ours, good, number, kind):
        if kind == "sttx":
            path, file = ours, ours / "model.safetensors"
            header, values = header_of(file)
            header[f"blocks.{number}.att.r_k"] = header.pop("blocks.1.att.r_k")
            write_header(file, header, values)
        else:
            path = ours / "m.pth"
            tensors = torch.load(good / "m.pth", weights_only=True)
            tensors[f"blocks.{number}.att.r_k"] = tensors.pop("blocks.1.att.r_k")
            torch.save(tensors, path)
        before = peak()
        assert "no tensors of layer 2" in refusal(path) or "lacks 'blocks.1.att.r_k'" in refusal(path)
        assert peak() - before < 100

    def test_thousands_of_layers_are_refused_before_they_are_listed(self, tmp_path):
        entry = {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]}
        names = ["emb.weight", *(f"blocks.{layer}.att.r_k" for layer in range(5000))]
        write_header(tmp_path / "m.safetensors", dict.fromkeys(names, entry), b"")
        assert "has 5,000 layers; sttx loads at most 1,000" in refusal(tmp_path / "m.safetensors")


def peak():
    """Return the peak memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word


def storage(elements, dtype=b"Float", key=b"0"):
    return (
        b"("
        + text(b"storage")
        + b"ctorch\n"
        + dtype
        + b"Storage\n"
        + text(key)
        + text(b"cpu")
        + b"J"
        + struct.pack("<i", elements)
        + b"tQ"
    )


def tensor(shape, stride, stored):
    """Return the steps of a pickle that make a tensor."""
    numbers = [
        b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", size) for size in sizes) + b"t"
        for sizes in (shape, stride)
    ]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\x00" + numbers[0] + numbers[1] + b"\x89NtR"


def archive(path, steps, data=bytes(16), **options):
    """Write a ``.pth`` with a pickle of these steps and one storage."""
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + steps + b".")
        file.writestr("archive/data/0", data)
    return path


def named(*pairs):
    return b"}(" + b"".join(text(name) + value for name, value in pairs) + b"u"


def many(times, steps):
    """Return the steps of a dictionary with the same value so many times."""
    return named(*[(b"a", steps)] * times)


HUGE = b"\x8a\x05\x00\x00\x00\x00\x10"  # 2**36
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("
HOSTILE = {
    "memory": named((b"a", b"cbuiltins\nbytearray\n" + HUGE + b"\x85R")),
    "copies": text(b"x" * 10**6) + b"q\x00" + many(2000, b"c_codecs\nencode\nh\x00\x85R"),
    "dictionaries": b"]" + text(b"k") + b"N\x86aq\x00" + many(3000, b"ccollections\nOrderedDict\nh\x00\x85R"),
    "shapes": b"(" + b"K\x01" * 9000 + b"tq\x00" + many(900, REBUILD + storage(4) + b"K\x00h\x00h\x00tR"),
    "tuples": b"}()" + b"\x85" * 15_000 + b"Nu",
    "lists": b"]" * 9000 + b"a" * 8999,
    "steps": b"N" * 30_000,
    "pops": b"N0" * 30_000,
    "itself": b"}q\x00(" + text(b"state_dict") + b"h\x00u",
    "digits": b"I" + b"9" * 6000 + b"\n",
    "code": b"cos\nsystem\n" + text(b"true") + b"\x85R",
}


class TestArchives:
    def test_a_compressed_archive_is_not_unpacked(self, tmp_path):
        archive(tmp_path / "m.pth", b"N" * 2**26, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        before = peak()
        assert "is compressed, but sttx unpacks nothing" in refusal(tmp_path / "m.pth")
        assert peak() - before < 50 and (tmp_path / "m.pth").stat().st_size < 2**20

    @pytest.mark.parametrize(
        ("shape", "stride", "elements"),
        [
            ((10**6, 10**4), (0, 0), 4),
            ((10**9,), (1,), 10**9),
            ((4,), (4,), 4),
            ((-1, 2), (2, 1), 4),
            ((2**62, 4), (0, 0), 4),
        ],
    )
    def test_tensors_larger_than_what_is_stored_are_refused(self, tmp_path, shape, stride, elements):
        rk = tensor((2, 2), (2, 1), storage(4))
        pairs = (b"emb.weight", tensor(shape, stride, storage(elements))), (b"blocks.0.att.r_k", rk)
        assert "download it again" in refusal(archive(tmp_path / "m.pth", named(*pairs)))

    def test_one_storage_for_many_tensors_is_refused(self, tmp_path):
        rows = tensor((64, 64), (64, 1), storage(4096))
        pairs = [(b"emb.weight", rows), *((b"blocks.%d.att.r_k" % layer, rows) for layer in range(100))]
        path = archive(tmp_path / "m.pth", named(*pairs), bytes(4 * 4096))
        assert "claims tensors of 1,654,784 bytes, but has only" in refusal(path)

    @pytest.mark.parametrize("steps", HOSTILE.values(), ids=HOSTILE)
    def test_a_pickle_can_neither_grow_nor_run(self, tmp_path, monkeypatch, steps):
        monkeypatch.setattr("sttx_train.formats.pickled._MOST_STEPS", 20_000)
        before = peak()
        refusal(archive(tmp_path / "m.pth", steps))
        assert peak() - before < 200

    def test_entries_that_could_be_read_two_ways_are_refused(self, good, tmp_path):
        with zipfile.ZipFile(good / "m.pth") as source, zipfile.ZipFile(tmp_path / "m.pth", "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
            target.writestr("other/data.pkl", pickle.dumps({}, protocol=2))
        assert "damaged" in refusal(tmp_path / "m.pth")

    def test_a_legacy_file_claims_no_more_than_it_has(self, tmp_path):
        torch.save({"emb.weight": torch.zeros(8)}, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
        data = (tmp_path / "m.pth").read_bytes()
        (tmp_path / "m.pth").write_bytes(data.replace(b"K\x08", b"J\xff\xff\xff\x7f"[:2], 1))
        assert "damaged" in refusal(tmp_path / "m.pth")


class TestHeaders:
    @pytest.mark.parametrize(
        "entry",
        [
            {"data_offsets": [4, 8]},
            {"data_offsets": [0, 10**12]},
            {"data_offsets": [-4, 0]},
            {"data_offsets": [8, 0]},
            {"shape": [2**62, 4]},
            {"shape": [True]},
            {"shape": ["1"]},
            {"shape": [1] * 100},
            {"dtype": ["F32"]},
            {"dtype": "F32 "},
        ],
        ids=str,
    )
    def test_entries_that_lie_are_refused(self, ours, entry):
        header, values = header_of(ours / "model.safetensors")
        header["blocks.0.att.r_k"] |= entry
        write_header(ours / "model.safetensors", header, values)
        assert "is damaged" in refusal(ours)

    def test_tensors_that_overlap_are_refused(self, ours):
        header, values = header_of(ours / "model.safetensors")
        header["blocks.0.att.a0"]["data_offsets"] = header["blocks.0.att.w0"]["data_offsets"]
        write_header(ours / "model.safetensors", header, values)
        assert "its tensors do not follow one another" in refusal(ours)

    @pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**8, 0, 1])
    def test_a_length_that_lies_is_refused(self, ours, length):
        write_header(ours / "model.safetensors", *header_of(ours / "model.safetensors"), length)
        assert "damaged" in refusal(ours)

    @pytest.mark.parametrize(
        "raw", [b'{"a":' * 100_000, b"{" + b'"a":[],' * 100_000, b'{"a": 1e999}', b'{"\\ud800": {}}']
    )
    def test_json_that_is_too_deep_or_no_header_is_refused(self, tmp_path, raw):
        (tmp_path / "m.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
        assert "damaged" in refusal(tmp_path / "m.safetensors")

    @cheap
    @given(data=st.data())
    def test_any_forged_header_is_refused_or_exact(self, ours, data):
        """What is accepted has the shapes that the library reads."""
        header, values = header_of(ours / "model.safetensors")
        name = data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
        whole = st.integers(-1, 40) | st.sampled_from([2**31, 2**62, 2**64, 10**30])
        odd = (
            st.none()
            | st.booleans()
            | whole
            | st.floats()
            | st.text(max_size=5)
            | st.lists(whole, max_size=4)
        )
        field = data.draw(st.sampled_from(["shape", "dtype", "data_offsets"]))
        path = ours / "forged.safetensors"
        write_header(path, header | {name: header[name] | {field: data.draw(odd)}}, values)
        try:
            shapes = {name: info.shape for name, info in read_infos(path).items()}
        except ModelError as error:
            assert "download it again" in str(error)
        else:
            assert shapes == {name: tuple(value.shape) for name, value in load_file(path).items()}


SIZES = ["num_layers", "hidden_size", "head_size", "vocab_size", "ffn_size", "decay_rank"]
ODD_SIZES = [10**9, 0, -1, 2.0, float("nan"), float("inf"), "16", None, True, [16], {}, 10**30, [[[[[[1]]]]]]]
EPSILONS = [0, -1e-5, float("nan"), float("inf"), -float("inf"), 1e300, "1e-5", None, True, [], {}]


class TestConfigs:
    @pytest.mark.parametrize("value", ODD_SIZES, ids=repr)
    def test_odd_sizes_are_refused_by_name(self, ours, value):
        saved = json.loads((ours / "config.json").read_text())
        for name in SIZES[: 4 if value == 0 else None]:  # 0 stands for the default of the others
            changed = saved | {"model": saved["model"] | {name: value}}
            (ours / "config.json").write_text(json.dumps(changed))
            with pytest.raises(ModelError, match=r"config\.json of .*(damaged|says)"):
                load_model(ours)

    @pytest.mark.parametrize("value", EPSILONS, ids=repr)
    def test_an_epsilon_is_a_positive_number(self, ours, value):
        saved = json.loads((ours / "config.json").read_text())
        saved["model"]["layer_norm_eps"] = value
        (ours / "config.json").write_text(json.dumps(saved))
        assert "layer_norm_eps must be a number above 0 and below 1" in refusal(ours)
        with pytest.raises(UsageError, match="layer_norm_eps"):
            RWKV7Config(vocab_size=4, hidden_size=8, num_layers=1, head_size=8, layer_norm_eps=value)

    @pytest.mark.parametrize(
        "config",
        [
            '{"a":' * 100_000,
            "[" * 100_000,
            '{"format": "sttx", "version": 1}',
            '{"format": "sttx", "version": 1, "model": []}',
            '{"format": "sttx", "version": 1, "model": {"\\ud800' + "x" * 10_000 + '": 1}}',
            '{"format": "sttx", "version": ' + "[" * 900 + "]" * 900 + "}",
            '{"format": "sttx", "version": ' + "9" * 5000 + "}",
            b"\xff\xfe{}",
            b" " * (1 << 23) + b"{}",
        ],
        ids=["deep", "lists", "none", "list", "unknown", "nested", "digits", "bytes", "large"],
    )
    def test_odd_documents_are_refused(self, ours, config):
        (ours / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
        refusal(ours)

    @pytest.mark.parametrize(
        "value", [1e-3, float("nan"), "1e-5", [1e-5], "x" * 5000, {"a": {}}], ids=lambda v: repr(v)[:9]
    )
    def test_another_epsilon_of_hugging_face_is_refused(self, make_model, tmp_path, value):
        save_model(make_model(num_layers=1), tmp_path / "m", format="huggingface")
        config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"norm_eps": value}
        (tmp_path / "m" / "config.json").write_text(json.dumps(config))
        assert "says norm_eps = " in refusal(tmp_path / "m")


class TestPlaces:
    FILES = ["config.json", "model.safetensors"]

    @posix
    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere", "itself"])
    def test_only_files_are_opened(self, ours, name, kind):
        path = ours / name
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to({"device": "/dev/zero", "nowhere": ours / "nothing", "itself": path}[kind])
        refusal(ours)

    @posix
    def test_a_pipe_or_a_device_is_no_model(self, tmp_path):
        os.mkfifo(tmp_path / "m.pth")
        for path in (tmp_path / "m.pth", "/dev/zero"):
            assert "is a pipe, a device or a socket: give a model's folder or file" in refusal(path)
        with pytest.raises(ModelError, match="is a pipe, a device or a socket, not a file"):
            load_state(tmp_path / "m.pth")

    @pytest.mark.parametrize(
        "name", ["../part.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\0b", "x" * 300, 3]
    )
    def test_an_index_names_files_of_its_folder_only(self, ours, name):
        (ours / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"emb.weight": name}}))
        refusal(ours)

    @posix
    def test_a_shard_that_is_a_link_leads_out_of_the_folder(self, ours, good):
        (ours / "part.safetensors").symlink_to(good / "sttx" / "model.safetensors")
        names = read_infos(good / "sttx" / "model.safetensors")
        index = {"weight_map": dict.fromkeys(names, "part.safetensors")}
        (ours / "model.safetensors.index.json").write_text(json.dumps(index))
        assert (
            "'part.safetensors' of" in (said := refusal(ours))
            and "is a link to a file outside the folder" in said
        )

    @posix
    def test_the_cache_of_the_hub_links_to_its_own_content(self, ours, good):
        blobs, snapshot = ours / "models--a" / "blobs", ours / "models--a" / "snapshots" / "1234"
        for folder in (blobs, snapshot):
            folder.mkdir(parents=True)
        (blobs / "abc").write_bytes((good / "sttx" / "model.safetensors").read_bytes())
        (snapshot / "part.safetensors").symlink_to("../../blobs/abc")
        index = {"weight_map": dict.fromkeys(read_infos(blobs / "abc"), "part.safetensors")}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        assert load_model(snapshot).model.config.num_layers == 2

    def test_a_tensor_in_another_shard_than_the_index_says_is_refused(self, ours):
        tensors = load_file(ours / "model.safetensors")
        for number, keep in enumerate((tensors, {"emb.weight": tensors["emb.weight"] + 1})):
            save_file(keep, ours / f"{number}.safetensors")
        where = dict.fromkeys(tensors, "0.safetensors") | {"emb.weight": "1.safetensors"}
        (ours / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        assert "differ in 'emb.weight'" in refusal(ours)


class TestVocabularies:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("vocab.txt", b"\xff\xfe"),
            ("vocab.txt", b"1 'a' 1\n" + b"9" * 6_000_000),
            ("vocab.txt", b"1 " + b"(" * 100_000 + b" 1"),
            ("vocab.txt", b"9" * 5000 + b" 'a' 1"),
            ("tokenizer.sttx.json", b'{"a":' * 10_000),
            ("tokenizer.sttx.json", b" " * 100_000),
            ("tokenizer.sttx.json", b'{"tokenizer": "' + b"x" * 5000 + b'", "sha256": ""}'),
            ("tokenizer.sttx.json", b'{"tokenizer": "integer:' + b"9" * 5000 + b'", "sha256": ""}'),
            ("tokenizer.sttx.json", b'{"tokenizer": "hf", "sha256": ""}'),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_they_are_refused_in_a_sentence(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            tokenizer_for(tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000

    @pytest.mark.parametrize("content", [b'{"a":' * 100_000, b"\xff", b" " * 40_000_001, b'{"version": 1}'])
    def test_a_tokenizer_json_is_refused_in_a_sentence(self, tmp_path, content):
        (tmp_path / "tokenizer.sttx.json").write_text('{"tokenizer": "hf", "sha256": ""}')
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(DataError, match=r"tokenizer\.json"):
            tokenizer_for(tmp_path)
