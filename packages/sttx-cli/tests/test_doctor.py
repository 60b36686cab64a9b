"""`sttx doctor`: what works, what does not, and the exit code."""

import json
import shutil
import sys

import pytest

from sttx_ccsniff import live_tools
from sttx_cli.commands import doctor
from sttx_core.errors import ModelError
from sttx_train.coding import vector


@pytest.fixture(scope="module")
def tools():
    """Ask Node and npm for their versions once, not in every test: they take a second."""
    return live_tools()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tools):
    monkeypatch.setattr(doctor, "live_tools", lambda: tools)


def findings(result):
    return {finding["name"]: finding for finding in result.json["findings"]}


def test_everything_works_here(sttx):
    result = sttx("doctor", "--json")
    found = findings(result)
    assert (result.code, result.err, result.json["ok"]) == (0, "", True)
    assert list(found)[:3] == ["python", "torch", "device"]
    assert {
        "kernel",
        "fla",
        "model",
        "node",
        "npm",
        "ccsniff",
        "Claude Code",
        "event log",
        "disk",
    } <= found.keys()
    assert all(finding["status"] in ("ok", "note") and finding["detail"] for finding in found.values())
    assert found["model"]["detail"].startswith("goose-mini: ")


def test_a_processor_that_codes_otherwise_is_noted(sttx, monkeypatch):
    assert findings(sttx("doctor", "--json"))["archives"]["status"] == "ok"
    monkeypatch.setitem(vector.EXPECTED, "mini+experts", "0" * 64)
    vector.computes_as_expected.cache_clear()
    result = sttx("doctor", "--json")
    vector.computes_as_expected.cache_clear()
    found = findings(result)["archives"]
    assert (result.code, found["status"]) == (0, "note") and "unlike others" in found["detail"]


def test_the_table_has_the_same_findings(sttx):
    found = sttx("doctor", "--json").json["findings"]
    lines = sttx("doctor").out.splitlines()
    assert len(lines) == len(found)
    for line, finding in zip(lines, found, strict=True):
        assert line.startswith(f"{finding['status']:6}  {finding['name']}")


def test_no_history_is_a_note_and_a_history_is_counted(sttx, tmp_path, monkeypatch, sessions):
    none = findings(sttx("doctor", "--json"))["Claude Code"]
    assert none["status"] == "note" and "without --from, the sample is used" in none["detail"]
    folder = tmp_path / "claude" / "projects"
    folder.mkdir(parents=True)
    shutil.copy(sessions, folder / "one.jsonl")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    found = findings(sttx("doctor", "--json"))
    assert found["Claude Code"]["detail"] == f"1 session files in {str(folder)!r}"
    assert found["history kept"]["status"] == "note" and "30 days" in found["history kept"]["detail"]
    (tmp_path / "claude" / "settings.json").write_text(json.dumps({"cleanupPeriodDays": 3650}))
    assert "history kept" not in findings(sttx("doctor", "--json"))


def test_the_event_log_is_found_or_broken(sttx, tmp_path, monkeypatch):
    assert findings(sttx("doctor", "--json"))["event log"]["detail"] == "off (STTX_LOG_DIR is not set)"
    monkeypatch.setenv("STTX_LOG_DIR", str(tmp_path))
    assert findings(sttx("doctor", "--json"))["event log"]["detail"] == f"in {str(tmp_path)!r}"
    (tmp_path / "file").touch()
    monkeypatch.setenv("STTX_LOG_DIR", str(tmp_path / "file"))
    result = sttx("doctor", "--json")
    assert result.code == 1 and findings(result)["event log"]["status"] == "broken"


def test_without_torch_it_is_broken(sttx, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = sttx("doctor", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
    found = findings(result)
    assert found["torch"]["status"] == "broken" and "install sttx again" in found["torch"]["detail"]
    assert "device" not in found
    assert found["model"]["status"] == "ok"  # its files are checked without torch


def test_without_a_model_it_is_broken(sttx, monkeypatch):
    def refuse(_):
        raise ModelError("the embedded model is not installed")

    monkeypatch.setattr("sttx_train.inspect.model.inspect_model", refuse)
    result = sttx("doctor")
    assert result.code == 1
    assert "broken  model" in result.out and "the embedded model is not installed" in result.out


def test_a_full_disk_is_a_note(sttx, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**6))
    assert findings(sttx("doctor", "--json"))["disk"]["status"] == "note"


def test_an_untested_python_is_a_note(sttx, monkeypatch):
    monkeypatch.setattr(doctor, "_PYTHONS", ((2, 6), (2, 7)))
    assert "tested with" in findings(sttx("doctor", "--json"))["python"]["detail"]


def test_without_a_gpu_fla_is_not_imported(sttx, monkeypatch):
    monkeypatch.setitem(sys.modules, "fla.ops.rwkv7", None)
    fla = doctor._fla(cuda=False)
    assert fla.status == "ok" and fla.detail.endswith("only a CUDA device uses it")
    broken = doctor._fla(cuda=True)
    assert broken.status == "note" and "kernels in plain torch are used" in broken.detail


def test_another_model_can_be_checked(sttx, tiny_model, tmp_path):
    found = findings(sttx("doctor", "--json", "--model", tiny_model))["model"]
    assert found["status"] == "ok" and found["detail"].startswith(f"{tiny_model.name}: ")
    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("[1]")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(99))
    for path, said in ((tmp_path / "m", "holds a list"), (tmp_path / "m.gguf", "a GGUF file")):
        result = sttx("doctor", "--json", "--model", path)
        assert result.code == 1 and findings(result)["model"]["status"] == "broken"
        assert said in findings(result)["model"]["detail"]
    result = sttx("doctor", "--model", "nowhere")
    assert result.code == 2 and "no model at 'nowhere'" in result.err
