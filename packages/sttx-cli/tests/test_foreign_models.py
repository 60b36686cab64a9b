"""Models of others through every command that reads one: what is taken off is said, forgeries are refused."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture
def commands(sttx, sessions, tmp_path):
    """Return a function that runs each command that reads a model, and gives the results."""
    (tmp_path / "data.txt").write_text("some words " * 20)
    short = ("--device", "cpu", "--steps", 1)

    def run(model):
        train = ("train", sessions, "--model", model, "--checkpoint-dir", tmp_path / "run", "--window", 32)
        pretrain = ("pretrain", tmp_path / "data.txt", "--start-from", model, "--out", tmp_path / "out")
        return {
            "inspect": sttx("inspect", model),
            "train": sttx(*train, *short),
            "pretrain": sttx(*pretrain, *short, "--batch", 1, "--ctx", 16, "--tokenizer", "bytes"),
        }

    return run


def test_what_was_taken_off_is_said(commands, tiny_model, tmp_path):
    tensors = {f"module.{name}": value for name, value in load_file(tiny_model / "model.safetensors").items()}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "m.pth")
    shutil.copy(tiny_model / "vocab.txt", tmp_path)
    for name, result in commands(tmp_path / "m.pth").items():
        words = " ".join((result.out if name == "inspect" else result.err).split())
        assert result.code == 0, result.err
        assert "the tensors are those of the entry 'state_dict' of the file; not used: 'epoch'" in words
        assert "removed from tensor names: 'module.'" in words


def renumbered(folder):
    tensors = load_file(folder / "model.safetensors")
    torch.save(
        {name.replace("blocks.1.", "blocks.99999999."): t for name, t in tensors.items()}, folder / "m.pth"
    )
    return folder / "m.pth"


def compressed(folder):
    with zipfile.ZipFile(folder / "m.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**24))
    return folder / "m.pth"


def pipe(folder):
    os.mkfifo(folder / "m.pth")
    return folder / "m.pth"


def without_epsilon(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["layer_norm_eps"] = float("nan")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def config(content):
    """Return a function that puts something else in the place of a model's config."""

    def forge(folder):
        path = folder / "config.json"
        path.unlink()
        os.mkfifo(path) if content is None else path.write_bytes(content)
        return folder

    return forge


def nested_size(folder):
    saved = json.loads((folder / "config.json").read_text())
    saved["model"]["vocab_size"] = "here"
    text = json.dumps(saved).replace('"here"', "[" * 400 + "]" * 400)
    (folder / "config.json").write_text(text)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="pipes are files on POSIX")
@pytest.mark.parametrize(
    ("forge", "code", "said"),
    [
        (renumbered, 1, "has no tensors of layer 1: the file is incomplete"),
        (compressed, 1, "is compressed, but sttx unpacks nothing"),
        (pipe, 2, "is a pipe, a device or a socket: give a model's folder or file"),
        (without_epsilon, 1, "layer_norm_eps must be a number above 0 and below 1, not nan"),
        (config(b"[" * 50_000), 1, "config.json' is not valid JSON (it is nested too deep): download it"),
        (config(b"[1]"), 1, "config.json' holds a list, not an object"),
        (nested_size, 1, "vocab_size must be a whole number, not [[[[[["),
        (config(None), 1, "config.json': it is a pipe, a device or a socket, not a file: give a file"),
    ],
)
def test_forgeries_are_refused_in_one_sentence(commands, tiny_model, tmp_path, forge, code, said):
    shutil.copytree(tiny_model, tmp_path / "m")
    results = commands(forge(tmp_path / "m"))
    for result in results.values():
        (sentence,) = [line for line in result.err.splitlines() if line.startswith("sttx: ")]
        assert said in sentence and result.code == code
        assert result.err == results["inspect"].err, "the same from each, before anything slow starts"
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_run_is_refused_before_torch_is_imported(tiny_model, sessions, tmp_path):
    without_epsilon(Path(shutil.copytree(tiny_model, tmp_path / "m")))
    model, out = str(tmp_path / "m"), str(tmp_path / "out")
    code = f"""
import sys
from sttx_cli.app import run
assert run(["train", {str(sessions)!r}, "--model", {model!r}, "--checkpoint-dir", {out!r}]) == 1
assert run(["pretrain", {str(sessions)!r}, "--start-from", {model!r}, "--out", {out!r}]) == 1
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False" and not Path(out).exists()
