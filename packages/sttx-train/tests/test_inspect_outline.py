"""Names, shapes and dtypes without values equal those of the tensors, as far as damage leaves them."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sttx_core.errors import ModelError
from sttx_train.formats.tensorinfo import TensorInfo
from sttx_train.inspect.outline import read_outline


def described(tensors):
    """Return shape and dtype by name, of tensors and of `TensorInfo`."""
    return {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]
ODD = {f"a.{i}.{dtype}": torch.zeros(2, i + 1, dtype=dtype) for i, dtype in enumerate(DTYPES)}
ODD |= {"scalar": torch.tensor(1.0), "empty": torch.zeros(0, 3), "vector": torch.zeros(1, 1, 300)}


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_the_outline_has_the_tensors_names_shapes_and_dtypes(tmp_path, name):
    save = save_file if name.endswith("safetensors") else torch.save
    save(ODD, tmp_path / name)
    outline = read_outline(tmp_path / name)
    assert described(outline.tensors) == described(ODD)
    assert {type(tensor) for tensor in outline.tensors.values()} == {TensorInfo}
    assert (outline.files, outline.problems) == ({tmp_path / name: (tmp_path / name).stat().st_size}, [])


def test_a_safetensors_file_is_never_read_past_its_header(tmp_path):
    """A hundred gigabytes are claimed and there: a hole in the file, which reading would fill."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**5, 250_000], "data_offsets": [0, 10**11]}})
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + 10**11)
    outline = read_outline(path)
    assert outline.problems == [] and outline.tensors["w"].shape == (10**5, 250_000)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [0.999, 0.9, 0.7])
def test_a_truncated_pth_is_reported_by_its_first_part(tmp_path, legacy, keep):
    """Names and shapes precede the values in the file. These need more than 256 entries of the memo."""
    tensors = {f"blocks.{i}.w": torch.zeros(i % 7 + 1, 400, dtype=DTYPES[i % 4]) for i in range(150)}
    torch.save(tensors, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    data = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data[: int(len(data) * keep)])
    outline = read_outline(tmp_path / "x.pth")
    assert described(outline.tensors) == described(tensors)
    assert len(outline.problems) == 1 and "download it again" in outline.problems[0]


def test_parameters_are_tensors_too(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.zeros(2, 3)), "b": torch.zeros(4)}, tmp_path / "x.pth")
    whole = read_outline(tmp_path / "x.pth")
    data = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data[:-40])
    assert described(read_outline(tmp_path / "x.pth").tensors) == described(whole.tensors)


def test_a_nested_pth_is_reported_with_its_problem(tmp_path):
    torch.save({"weights": {"emb.weight": torch.zeros(2, 3)}, "step": 3}, tmp_path / "x.pth")
    outline = read_outline(tmp_path / "x.pth")
    assert described(outline.tensors) == {"emb.weight": ((2, 3), "float32")}
    assert "not a dictionary of tensors" in outline.problems[0]


def test_pickled_code_never_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"w": torch.zeros(3), "evil": Evil()}, tmp_path / "x.pth")
    outline = read_outline(tmp_path / "x.pth")
    assert described(outline.tensors) == {"w": ((3,), "float32")}
    assert "which sttx does not load" in outline.problems[0]
    (tmp_path / "y.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="which sttx does not load"):
        read_outline(tmp_path / "y.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("change", "said"), [(-7, "is damaged"), (5, "is damaged")])
def test_a_safetensors_file_of_another_length_is_damaged(tmp_path, change, said):
    path = tmp_path / "x.safetensors"
    save_file(ODD, path)
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + b"x" * change)
    outline = read_outline(path)
    assert described(outline.tensors) == described(ODD)
    (problem,) = outline.problems
    assert f"it has {len(data) + change:,} bytes instead of {len(data):,}: download it again" in problem


def safetensors_header(**entry):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}).encode()
    return len(header).to_bytes(8, "little") + header + b"1234"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello world, this is text",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{",
        (50).to_bytes(8, "little") + b'{"w": {"dty',
        (2).to_bytes(8, "little") + b"{]",
        safetensors_header(dtype="F99"),
        safetensors_header(shape=[-1]),
        safetensors_header(shape=[10**30]),
        safetensors_header(shape="x"),
        safetensors_header(shape=[2.0]),
        safetensors_header(shape=[2**40, 2**40]),
        safetensors_header(shape=1),
        safetensors_header(data_offsets=[]),
        b"PK\x03\x04" + bytes(40),
        b"\x80\x02}q\x00(",
    ],
)
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(ModelError, match="download it again"):
        read_outline(tmp_path / "x.bin")


class TestFolders:
    @pytest.fixture
    def sharded(self, tmp_path):
        def make(suffix, save, index):
            tensors = {f"w{i}": torch.zeros(i + 1, 2) for i in range(6)}
            where = {name: f"part-{i % 2}.{suffix}" for i, name in enumerate(tensors)}
            for file in set(where.values()):
                save({name: tensors[name] for name in tensors if where[name] == file}, tmp_path / file)
            (tmp_path / index).write_text(json.dumps({"weight_map": where}))
            return tensors

        return make

    def test_shards_join(self, sharded, tmp_path):
        tensors = sharded("safetensors", save_file, "model.safetensors.index.json")
        outline = read_outline(tmp_path)
        assert described(outline.tensors) == described(tensors)
        assert ([file.name for file in outline.files], outline.problems) == (
            ["part-0.safetensors", "part-1.safetensors"],
            [],
        )

    def test_pickled_shards_join(self, sharded, tmp_path):
        tensors = sharded("bin", torch.save, "pytorch_model.bin.index.json")
        outline = read_outline(tmp_path)
        assert described(outline.tensors) == described(tensors) and outline.container == "pth"

    def test_a_missing_shard_is_named(self, sharded, tmp_path):
        sharded("safetensors", save_file, "model.safetensors.index.json")
        (tmp_path / "part-1.safetensors").unlink()
        outline = read_outline(tmp_path)
        assert set(outline.tensors) == {"w0", "w2", "w4"}
        assert outline.problems == [
            "it lacks 'part-1.safetensors', which has 3 tensors in the index: download it again"
        ]
        (tmp_path / "part-0.safetensors").unlink()
        with pytest.raises(ModelError, match="an index but none of its files"):
            read_outline(tmp_path)

    def test_an_index_that_disagrees_is_reported(self, sharded, tmp_path):
        sharded("safetensors", save_file, "model.safetensors.index.json")
        tensors = load_file(tmp_path / "part-1.safetensors")
        save_file({"w1": tensors["w1"].clone()}, tmp_path / "part-1.safetensors")
        assert read_outline(tmp_path).problems == [
            "its index and its files differ in 'w3': download them again"
        ]

    def test_a_single_file_is_enough(self, tmp_path):
        torch.save(ODD, tmp_path / "pytorch_model.bin")
        assert described(read_outline(tmp_path).tensors) == described(ODD)

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match="is not a model folder"):
            read_outline(tmp_path)
