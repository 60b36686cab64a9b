"""Checkpoints: exact round trips, refusals that say what to do, and folders that survive a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sttx_core.errors import CheckpointError, UsageError
from sttx_train.checkpoint import folder as checkpoint_folder
from sttx_train.checkpoint.store import CheckpointStore

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "ckpt")


def save(store: CheckpointStore, step: int, **fields) -> Path:
    return store.save(
        step,
        tensors={"learned": {"s0": torch.full((3, 5), float(step)), "count": torch.tensor(step)}},
        documents={"progress": {"step": step, "rng": 2**127 + step, "loss": 0.1}},
        manifest={"base_sha256": "aa", **fields},
    )


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir() if path.name != ".lock")


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return bytes(a.contiguous().reshape(-1).view(torch.uint8)) == bytes(b.reshape(-1).view(torch.uint8))


# --- round trips


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (3, 5)], ids=str)
def test_every_dtype_and_shape_comes_back_exactly(store, dtype, shape):
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)
    store.save(1, tensors={"one": {"x": tensor}}, documents={}, manifest={})
    assert same_bits(tensor, store.load().tensors["one"]["x"])


def test_odd_values_keep_their_bits(store):
    odd = torch.tensor([float("nan"), -float("nan"), float("inf"), -0.0, 1e-45, 0.1])
    store.save(1, tensors={"one": {"x": odd}}, documents={}, manifest={})
    assert same_bits(odd, store.load().tensors["one"]["x"])


def test_views_parameters_and_shared_memory_are_saved_by_value(store):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    given = {
        "transposed": base.T,
        "rows": base[1:3],
        "again": base,
        "spread": torch.ones(1).expand(7),
        "parameter": torch.nn.Parameter(base * 2),
    }
    store.save(1, tensors={"one": given}, documents={}, manifest={})
    loaded = store.load().tensors["one"]
    assert loaded.keys() == given.keys()
    for name, tensor in given.items():
        assert torch.equal(loaded[name], tensor), name
        assert not loaded[name].requires_grad


def test_loaded_tensors_have_memory_of_their_own(store):
    given = {f"t{i}": torch.randn(i + 1) for i in range(9)}  # odd sizes: unaligned in the file
    store.save(1, tensors={"one": given}, documents={}, manifest={})
    loaded = store.load().tensors["one"]
    for tensor in loaded.values():
        assert tensor.data_ptr() % 64 == 0
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # not a view into a mapped file
    loaded["t0"].add_(1)  # so writing to it does not change the file
    assert torch.equal(store.load().tensors["one"]["t0"], given["t0"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(document=JSON, field=JSON)
def test_every_json_value_comes_back_exactly(tmp_path_factory, document, field):
    store = CheckpointStore(tmp_path_factory.mktemp("json"))
    store.save(1, tensors={}, documents={"anything": document}, manifest={"field": field})
    loaded = store.load()
    assert loaded.documents == {"anything": document}
    assert loaded.manifest["field"] == field


def test_several_files_stay_apart(store):
    tensors = {"model": {"w": torch.ones(2)}, "optimizer": {"w": torch.zeros(2)}, "empty": {}}
    store.save(3, tensors=tensors, documents={"model": [1], "cursor": {}}, manifest={})
    loaded = store.load()
    assert loaded.step == 3
    assert loaded.tensors["model"]["w"].tolist() == [1, 1]
    assert loaded.tensors["optimizer"]["w"].tolist() == [0, 0]
    assert loaded.tensors["empty"] == {}
    assert loaded.documents == {"model": [1], "cursor": {}}


def test_the_manifest_names_every_file(store):
    folder = save(store, 12)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["step"], manifest["base_sha256"]) == (1, 12, "aa")
    assert set(manifest["files"]) == {"learned.safetensors", "progress.json"}
    for name, entry in manifest["files"].items():
        assert entry["bytes"] == (folder / name).stat().st_size
        printed = subprocess.run(["sha256sum", folder / name], capture_output=True, text=True, check=True)
        assert printed.stdout.split()[0] == entry["sha256"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_but_the_owner_reads_a_checkpoint_whatever_the_umask(store, umask):
    before = os.umask(umask)
    try:
        folder = save(store, 1)
    finally:
        os.umask(before)
    everything = [store.directory, *store.directory.rglob("*")]
    assert folder in everything and store.directory / ".lock" in everything
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_file()} == {0o600}


# --- which one is the latest, and which are kept


def test_without_a_checkpoint_latest_is_none_and_load_fails(store):
    assert store.latest() is None
    with pytest.raises(CheckpointError, match="no checkpoint in .*ckpt.*leave out --resume to start there"):
        store.load()
    store.directory.mkdir()
    assert store.latest() is None


def test_latest_goes_by_number_not_by_name(store):
    for step in (99_999_999, 100_000_000):
        save(store, step)
    assert store.load().step == 100_000_000
    (store.directory / "latest").unlink()
    assert store.load().step == 100_000_000


def test_only_the_last_few_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 5, 20, 100):
        save(store, step)
    assert names(store) == ["latest", "step-00000020", "step-00000100"]
    CheckpointStore(tmp_path, keep=1).save(101, tensors={}, documents={}, manifest={})
    assert names(store) == ["latest", "step-00000101"]


def test_at_least_one_is_kept(tmp_path):
    with pytest.raises(UsageError, match="0 checkpoints"):
        CheckpointStore(tmp_path, keep=0)


def test_saving_a_step_again_replaces_it(store):
    save(store, 4)
    save(store, 5)
    second = save(store, 5, base_sha256="bb")
    assert store.latest() == second
    assert store.load().manifest["base_sha256"] == "bb"
    assert len(names(store)) == 3, "the replaced folder is gone"
    third = save(store, 5, base_sha256="cc")
    assert store.load().manifest["base_sha256"] == "cc"
    assert (third.is_dir(), second.is_dir()) == (True, False)
    save(store, 6)
    assert [store.load(path).step for path in sorted(store.directory.glob("step-*"))] == [4, 5, 6]


def test_resuming_from_further_back_leaves_later_steps_alone(store):
    for step in (10, 20, 30, 40):
        save(store, step)
    back = store.load(store.directory / "step-00000020")
    assert back.step == 20
    save(store, 21)
    assert store.load().step == 21
    assert names(store) == ["latest", *(f"step-000000{step}" for step in (20, 21, 30, 40))]


def test_the_rest_of_a_killed_run_is_removed(store):
    save(store, 1)
    (store.directory / ".writing-step-00000002").mkdir()
    (store.directory / ".writing-step-00000002" / "half.safetensors").touch()
    (store.directory / ".writing-latest").touch()
    (store.directory / "notes.txt").touch()
    assert store.load().step == 1
    save(store, 2)
    assert names(store) == ["latest", "notes.txt", "step-00000001", "step-00000002"]


def test_a_failed_save_leaves_everything_as_it_was(store):
    save(store, 1)
    before = names(store)
    with pytest.raises(CheckpointError, match="'d.json' would hold a number that is not finite"):
        store.save(2, tensors={"t": {"x": torch.ones(9)}}, documents={"d": float("nan")}, manifest={})
    assert names(store) == before
    assert store.load().step == 1


def test_an_error_of_the_disk_is_a_checkpoint_error(store, monkeypatch):
    save(store, 1)

    def full(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_folder, "sync", full)
    with pytest.raises(
        CheckpointError, match="cannot write a checkpoint to .*disk is full.*continue from step 1"
    ):
        save(store, 2)
    assert names(store) == ["latest", "step-00000001"]


@pytest.mark.parametrize("stem", ["../out", "manifest", "UPPER", "", "a b"])
def test_file_names_that_are_not_allowed_are_our_bugs(store, stem):
    with pytest.raises(AssertionError):
        store.save(1, tensors={}, documents={stem: 1}, manifest={})
    with pytest.raises(AssertionError):
        store.save(1, tensors={}, documents={}, manifest={"files": {}})


# --- refusals


def damage_flip(folder: Path) -> None:
    path = folder / "learned.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_truncate(folder: Path) -> None:
    path = folder / "learned.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def damage_document(folder: Path) -> None:
    path = folder / "progress.json"
    path.write_text(path.read_text().replace("0.1", "0.2"))


def damage_missing(folder: Path) -> None:
    (folder / "progress.json").unlink()


def damage_link(folder: Path) -> None:
    path = folder / "progress.json"
    path.rename(folder.parent / "moved.json")
    path.symlink_to(folder.parent / "moved.json")


def damage_no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def damage_manifest_cut(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-20])


def damage_manifest_edited(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"aa"', '"ab"'))


def damage_manifest_foreign(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": "pt", "name": "an app"}')


def damage_manifest_list(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")


DAMAGES = {
    "is not the one in the manifest": damage_flip,
    "bytes in 'learned.safetensors' instead of": damage_truncate,
    "damaged 'progress.json'": damage_document,
    "has no 'progress.json'": damage_missing,
    "'progress.json' as a link": damage_link,
    "has no manifest.json": damage_no_manifest,
    "damaged manifest": damage_manifest_cut,
    "a damaged manifest": damage_manifest_edited,
    "has a damaged manifest": damage_manifest_foreign,
    "has a damaged manifest.json": damage_manifest_list,
}


@pytest.mark.parametrize(("reason", "damage"), DAMAGES.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_damage_is_refused_with_a_way_out(store, reason, damage):
    for step in (1, 2, 3):
        save(store, step)
    damage(store.directory / "step-00000003")
    damage_flip(store.directory / "step-00000002")
    for read in (store.latest, store.load, lambda: store.load(store.directory / "step-00000003")):
        with pytest.raises(CheckpointError) as caught:
            read()
        message = str(caught.value)
        assert reason in message
        assert "\n" not in message
        advice = (
            f"remove '{store.directory}/step-00000003' and '{store.directory}/latest' to resume from step 1"
        )
        assert message.endswith(advice)


def test_the_way_out_works(store):
    for step in (1, 2):
        save(store, step)
    folder = store.directory / "step-00000002"
    damage_flip(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(CheckpointError, match="is missing: remove '[^']*latest' to resume from step 1"):
        store.load()
    (store.directory / "latest").unlink()
    assert store.load().step == 1


def test_without_an_intact_checkpoint_the_way_out_is_a_new_start(store):
    damage_missing(save(store, 1))
    with pytest.raises(CheckpointError, match="no other checkpoint here is complete, so start again"):
        store.load()


def test_an_additional_file_is_named(store):
    (save(store, 1) / "notes.txt").touch()
    with pytest.raises(
        CheckpointError, match="has a file 'notes.txt', which its manifest does not list: move"
    ):
        store.load()


def test_a_newer_format_asks_for_a_newer_sttx(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_folder, "FORMAT", 2)
        save(store, 1)
        assert store.load().step == 1
    with pytest.raises(CheckpointError, match="has format 2, and this sttx reads format 1: update sttx"):
        store.load()


def test_a_renamed_folder_is_noticed(store):
    save(store, 1).rename(store.directory / "step-00000009")
    with pytest.raises(CheckpointError, match="was saved at step 1"):
        store.load(store.directory / "step-00000009")


@pytest.mark.parametrize(
    "content", ["", "step-00000001", '{"folder": "../step-00000001"}', '{"folder": 1}', "[]", "\x00\xff"]
)
def test_a_damaged_pointer_is_refused_not_guessed_around(store, content):
    save(store, 1)
    (store.directory / "latest").write_bytes(content.encode("latin-1"))
    for read in (store.latest, store.load):
        with pytest.raises(CheckpointError, match="latest' is damaged: remove '[^']*' to resume from step 1"):
            read()
    save(store, 1)
    assert store.load().step == 1, "a new checkpoint repairs it"


def test_links_in_place_of_files_are_refused(store, tmp_path):
    elsewhere = CheckpointStore(tmp_path / "elsewhere")
    folder = save(elsewhere, 7)
    store.directory.mkdir()
    (store.directory / "step-00000007").symlink_to(folder)
    assert store.latest() is None, "a link is not a checkpoint folder"
    (store.directory / "latest").write_text('{"folder": "step-00000007"}')
    with pytest.raises(CheckpointError, match="is a link"):
        store.load()
    (store.directory / "latest").unlink()
    (store.directory / "latest").symlink_to(elsewhere.directory / "latest")
    with pytest.raises(CheckpointError, match="latest' is damaged"):
        store.load()
    with pytest.raises(CheckpointError, match="cannot write"):
        save(store, 7)  # its name is taken by the link
    assert elsewhere.load().step == 7, "nothing was written or removed through a link"


def test_a_link_that_the_user_names_is_followed(store, tmp_path):
    folder = save(store, 7)
    (tmp_path / "best").symlink_to(folder)
    assert store.load(tmp_path / "best").step == 7
    (tmp_path / "ckpt-link").symlink_to(store.directory)
    assert CheckpointStore(tmp_path / "ckpt-link").load().step == 7


@pytest.mark.parametrize("content", [None, "file", "folder"])
def test_a_path_that_is_not_a_checkpoint_is_refused(store, tmp_path, content):
    save(store, 1)
    path = tmp_path / "foreign"
    if content == "file":
        path.write_text("text")
    elif content == "folder":
        path.mkdir()
        (path / "model.safetensors").touch()
    with pytest.raises(
        CheckpointError, match="foreign.* (is missing|is a file|has no manifest.json).*another"
    ):
        store.load(path)


def test_a_file_in_place_of_the_store_is_refused(tmp_path):
    (tmp_path / "ckpt").write_text("text")
    store = CheckpointStore(tmp_path / "ckpt")
    for act in (store.latest, store.load, lambda: save(store, 1)):
        with pytest.raises(CheckpointError, match="is a file: give a folder"):
            act()


def test_a_read_only_store_can_be_read(store):
    save(store, 1)
    (store.directory / ".lock").unlink()
    mode = store.directory.stat().st_mode
    store.directory.chmod(0o555)
    try:
        assert store.load().step == 1
    finally:
        store.directory.chmod(mode)
    assert not (store.directory / ".lock").exists()


# --- expect


@pytest.mark.parametrize("pointer", [True, False])
def test_expect_goes_by_file_names_alone(store, pointer):
    with pytest.raises(UsageError, match="no checkpoint in .*: leave out --resume to start there"):
        store.expect(run=True)
    store.expect(run=False)
    (save(store, 1) / "manifest.json").write_text("damaged")
    if not pointer:
        (store.directory / "latest").unlink()
    store.expect(run=True)  # `load` reports damage
    with pytest.raises(UsageError, match="already holds a run; continue it with --resume"):
        store.expect(run=False)


def test_expect_refuses_a_file(tmp_path):
    (tmp_path / "file").touch()
    for run in (True, False):
        with pytest.raises(UsageError, match="is a file: give a folder"):
            CheckpointStore(tmp_path / "file").expect(run=run)
    with pytest.raises(
        UsageError,
        match=r"cannot write to '.*run': a part of the path is a file: check the path, or give another",
    ):
        CheckpointStore(tmp_path / "file" / "run").expect(run=False)


# --- kills, and order on the disk


def test_files_are_on_the_disk_before_they_get_their_names(store, monkeypatch):
    save(store, 1)
    happened = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def name_of(path) -> str:
        return str(Path(path).relative_to(store.directory))

    def note_fsync(handle):
        happened.append(("sync", name_of(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def note_rename(self, target):
        happened.append(("name", name_of(target)))
        return rename(self, target)

    def note_replace(self, target):
        happened.append(("name", name_of(target)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(Path, "replace", note_replace)
    save(store, 2)
    aside = ".writing-step-00000002"
    assert happened == [
        ("sync", f"{aside}/learned.safetensors"),
        ("sync", f"{aside}/progress.json"),
        ("sync", f"{aside}/manifest.json"),
        ("sync", aside),
        ("name", "step-00000002"),
        ("sync", "."),
        ("sync", ".writing-latest"),
        ("name", "latest"),
        ("sync", "."),
    ]


KILLER = Path(__file__).with_name("kill_checkpoint.py")


@pytest.mark.parametrize("how", ["everywhere", "random"])
def test_a_kill_at_any_moment_leaves_a_latest_that_loads(tmp_path, how):
    run = subprocess.run(
        [sys.executable, str(KILLER), how, str(tmp_path / "ckpt")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    kills, saved = map(int, run.stdout.split())
    assert kills >= 20
    assert saved > 5, "the killed runs made progress"
