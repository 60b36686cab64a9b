"""`sttx compress`, `decompress`, `list` and `test`: what they print, and how they fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sttx_train.coding import Archive
from sttx_train.coding.container import FILE, HEAD_BYTES, read_header, walk
from sttx_train.coding.locking import only_writer


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a session, a copy of it and an empty file."""
    path = tmp_path / "in"
    (path / "deep").mkdir(parents=True)
    lines = [
        {"type": "user", "uuid": f"u{turn}", "sessionId": "s", "cwd": "/home/ada"}
        | {"timestamp": f"2026-02-02T09:0{turn}:00Z"}
        | {"message": {"role": "user", "content": f"Run test {turn}"}}
        for turn in range(5)
    ]
    (path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "deep" / "copy").write_bytes((path / "s.jsonl").read_bytes())
    (path / "empty").touch()
    return path


@pytest.fixture
def archive(sttx, folder, tmp_path):
    assert sttx("compress", folder, "-o", tmp_path / "a.sttx").code == 0
    return tmp_path / "a.sttx"


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_and_the_numbers_are_right(sttx, folder, tmp_path):
    out = tmp_path / "a.sttx"
    done = sttx("compress", folder, "-o", out, "--json").json
    size = sum(map(len, content(folder).values()))
    assert (done["bytes_in"], done["bytes_out"], done["files"]) == (size, out.stat().st_size, 3)
    assert done["ratio"] == pytest.approx(done["bytes_out"] / size)
    assert done["bpb"] == pytest.approx(8 * done["ratio"])
    assert (done["profile"], done["method"]) == ("portable", "experts[primed]") and done["seconds"] > 0
    result = sttx("decompress", out, "-o", tmp_path / "again")
    assert result.code == 0 and f"3 files, {size:,} bytes" in result.out
    assert content(tmp_path / "again" / "in") == content(folder)


def test_an_archive_is_listed_and_tested(sttx, archive):
    listed = sttx("list", archive, "--json").json
    assert [file["path"] for file in listed["files"]] == ["in/empty", "in/s.jsonl", "in/deep/copy"]
    assert (
        listed["finished"]
        and listed["method"] == "experts[primed]"
        and listed["bytes"] == archive.stat().st_size
    )
    shown = sttx("list", archive).out
    assert "in/deep/copy" in shown and "3 files" in shown
    tested = sttx("test", archive)
    assert tested.code == 0 and "whole, 3 files" in tested.out


def test_one_file_is_given_back_under_another_name(sttx, folder, archive, tmp_path):
    assert sttx("decompress", archive, "in/s.jsonl", "-o", tmp_path / "part").code == 0
    assert (tmp_path / "part").read_bytes() == (folder / "s.jsonl").read_bytes()
    assert sttx("decompress", archive, "in/deep", "-o", tmp_path / "deep").code == 0
    assert [*content(tmp_path / "deep")] == [Path("in/deep/copy")]
    sttx("compress", folder / "s.jsonl")
    assert sttx("decompress", f"{folder / 's.jsonl'}.sttx", "-o", tmp_path / "alone").code == 0
    assert (tmp_path / "alone").read_bytes() == (folder / "s.jsonl").read_bytes()


def test_standard_input_and_output_carry_any_bytes(tmp_path):
    data = bytes(range(256))
    run = [sys.executable, "-m", "sttx_cli"]
    packed = subprocess.run([*run, "compress", "-"], input=data, capture_output=True, check=True).stdout
    again = subprocess.run(
        [*run, "decompress", "-", "-o", "-"], input=packed, capture_output=True, check=True
    )
    assert again.stdout == data


def test_an_archive_is_a_source_of_sessions(sttx, archive, folder):
    directly, packed = sttx("traces", folder / "s.jsonl", "--json"), sttx("traces", archive, "--json")
    texts = [
        [json.loads(line).get("text") for line in one.out.splitlines()[1:]] for one in (directly, packed)
    ]
    assert texts[0] == texts[1] and "Run test 4" in texts[0]
    assert "is an archive of 3 files" in packed.err


def test_an_archive_that_needs_a_model_takes_that_of_the_command(sttx, folder, tmp_path, tiny_model):
    session, out = folder / "s.jsonl", tmp_path / "tiny.sttx"
    made = ("--level", "default", "--model", tiny_model, "--streams", "1")
    assert sttx("compress", session, "-o", out, *made).code == 0
    score = ("score", "--model", tiny_model, "--experts", "off", "--json")
    directly, packed = sttx(*score, session), sttx(*score, out)
    assert packed.code == 0 and "is an archive of 1 file" in packed.err
    totals = [json.loads(one.out.splitlines()[-1])["bits"] for one in (directly, packed)]
    assert totals[0] == totals[1] > 0
    for command in (("traces", out), ("validate-data", out), ("score", out, "--json")):
        refused = sttx(*command)
        assert refused.code == 1 and "made with another model" in refused.err
        assert "restore its files with `sttx decompress`" in refused.err


def test_an_archive_without_a_model_is_read_with_any_model(sttx, archive, tiny_model):
    done = sttx("score", archive, "--model", tiny_model, "--experts", "off", "--json")
    assert done.code == 0 and "is an archive of 3 files" in done.err


def test_damage_is_one_sentence_and_exit_code_1(sttx, archive, tmp_path):
    data = bytearray(archive.read_bytes())
    with Archive(archive) as opened:
        place = opened.segments[0] + HEAD_BYTES + 9
    data[place] ^= 255
    archive.write_bytes(data)
    for command in (("test", archive), ("decompress", archive, "-o", tmp_path / "out"), ("traces", archive)):
        result = sttx(*command)
        assert result.code == 1 and "damaged" in result.err.splitlines()[-1]


def inside_an_entry(archive):
    """Return a position in what the archive says of one of its files."""
    with archive.open("rb") as file:
        read_header(file)
        return next(at for at, head in walk(file, file.tell()) if head.kind == FILE) + HEAD_BYTES + 9


@pytest.mark.parametrize("place", [-100, "file"])
def test_a_test_notices_damage_that_loses_nothing(sttx, archive, folder, place):
    data = bytearray(archive.read_bytes())
    data[inside_an_entry(archive) if place == "file" else place] ^= 255
    archive.write_bytes(data)
    result = sttx("test", archive)
    assert result.code == 1 and ("has no index" in result.err or "all files can be read" in result.err)
    assert sttx("decompress", archive, "-o", folder / "out").code == 0
    assert content(folder / "out" / "in").keys() == {*map(Path, ("s.jsonl", "deep/copy", "empty"))}


def test_a_foreign_file_is_refused(sttx, folder):
    for command in ("list", "test", "decompress"):
        result = sttx(command, folder / "s.jsonl")
        assert result.code == 1 and "not an archive of sttx" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--streams", "4"), "--streams is for a network"),
        (("--profile", "native"), "--profile native is for a network"),
        (("--method", "mini-experts"), "use experts, or mini, file:PATH or cfg:"),
        (("--method", "file:none+experts"), "no model at 'none'"),
        (("--method", "mini;policy:schedule=0..:train"), "takes --profile native"),
        (
            ("--method", "cfg:64,0,1,sgd,0,0.1", "--profile", "native", "--streams", "2"),
            "leave out --streams",
        ),
        (("--policy", "schedule=0..:train"), "give --profile native"),
        (("--save-learned", "here"), "would keep nothing"),
        (("--level", "network", "--checkpoint", "none"), "no checkpoint at 'none'"),
        (("-o", "none/a.sttx"), "no folder 'none'"),
        (("-o", "-", "--json"), "--json needs a file"),
        (("-o", "-", "--resume"), "--resume needs a file"),
        (("-o", "none.sttx", "--resume"), "no archive"),
    ],
)
def test_what_cannot_work_is_refused(sttx, folder, options, said):
    result = sttx("compress", folder, *options)
    assert result.code == 2 and said in result.err


def test_what_cannot_work_is_refused_before_anything_is_compiled_or_loaded(
    sttx, folder, archive, monkeypatch
):
    monkeypatch.setattr("sttx_cli.commands.compress.prepare_coding", lambda _: pytest.fail("compiled"))
    for options in (("-o", archive), ("-o", folder / "none" / "a"), ("-o", folder / "a", "--resume")):
        assert sttx("compress", folder, *options).code == 2
    percent = ("--level", "network", "--profile", "native", "--policy", "schedule=0..1%:train;1%..:infer")
    result = sttx("compress", "-", "-o", folder / "a", *percent)
    assert result.code == 2 and "known size" in result.err


def test_nothing_is_overwritten_and_resume_adds(sttx, folder, archive, tmp_path):
    again = sttx("compress", folder, "-o", archive)
    assert again.code == 2 and "exists" in again.err
    (folder / "new").write_text("new")
    assert sttx("compress", folder, "-o", archive, "--resume", "--json").json["files"] == 4
    (tmp_path / "out" / "in").mkdir(parents=True)
    (tmp_path / "out" / "in" / "new").write_text("mine")
    refused = sttx("decompress", archive, "-o", tmp_path / "out")
    assert refused.code == 2 and "exists" in refused.err
    assert content(tmp_path / "out") == {
        (tmp_path / "out" / "in" / "new").relative_to(tmp_path / "out"): b"mine"
    }


def test_several_files_need_a_name_for_their_archive(sttx, folder):
    result = sttx("compress", folder / "s.jsonl", folder / "empty")
    assert result.code == 2 and "give -o" in result.err


def test_an_archive_does_not_hold_itself(sttx, folder, archive):
    refused = sttx("compress", archive, "-o", archive, "--resume")
    assert refused.code == 2 and "is the archive that would be written" in refused.err
    inside = folder / "out.sttx"
    with inside.open("wb") as stream:
        command = [sys.executable, "-m", "sttx_cli", "compress", str(folder), "-o", "-"]
        subprocess.run(command, stdout=stream, check=True, timeout=300)
    with Archive(inside) as opened:
        assert sorted(entry.path for entry in opened.entries) == ["in/deep/copy", "in/empty", "in/s.jsonl"]


def test_a_name_with_a_slash_at_its_end_is_a_folder(sttx, folder, tmp_path):
    sttx("compress", folder / "s.jsonl", "-o", tmp_path / "one.sttx")
    assert sttx("decompress", tmp_path / "one.sttx", "-o", f"{tmp_path}/new/").code == 0
    assert (tmp_path / "new" / "s.jsonl").read_bytes() == (folder / "s.jsonl").read_bytes()


def test_training_resumes_in_an_archive(sttx, archive, tmp_path):
    run = tmp_path / "run"
    train = ("train", archive, "--checkpoint-dir", run, "--window", "8", "--experts", "off", "--json")
    first = sttx(*train, "--steps", "2").json
    rest = sttx(*train, "--resume").json
    assert (first["steps"], rest["steps"] > 2) == (2, True)
    again = sttx(*train, "--resume").json
    assert again["steps"] == rest["steps"] and again["bytes"] == rest["bytes"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".run-")] == []


def test_what_is_not_kept_is_said(sttx, folder, tmp_path):
    (folder / "link").symlink_to(folder / "s.jsonl")
    (folder / "none").mkdir()
    done = sttx("compress", folder, "-o", tmp_path / "a.sttx")
    assert done.code == 0 and "left out" in done.err and "in/link" in done.err and "in/none" in done.err


def test_two_writers_do_not_meet(sttx, folder, archive):
    with archive.open("r+b") as file, only_writer(file, archive):
        refused = sttx("compress", folder, "-o", archive, "--resume")
    assert refused.code == 2 and "another process is writing" in refused.err
    other = sttx("compress", folder, "-o", archive, "--resume", "--coder", "rans")
    assert other.code == 2 and "written with coder 'ac'" in other.err


def test_an_archive_is_made_with_a_network(sttx, folder, archive, tmp_path):
    out = tmp_path / "network.sttx"
    done = sttx("compress", folder, "-o", out, "--level", "default", "--streams", "2", "--json")
    assert done.json["method"] == "mini+experts[primed]" and done.json["profile"] == "portable"
    assert sttx("list", out, "--json").json["network"]["streams"] == 2
    assert sttx("decompress", out, "-o", tmp_path / "again").code == 0
    assert content(tmp_path / "again" / "in") == content(folder)
    refused = sttx("test", archive, "--model", "goose-mini")
    assert refused.code == 2 and "needs no network" in refused.err


def test_an_archive_of_profile_native_says_so(sttx, folder, tmp_path):
    out, learned, source = tmp_path / "native.sttx", tmp_path / "learned", folder / "s.jsonl"
    method = "cfg:hidden=64,layers=1,seed=7"
    policy = "schedule=0..50%:train(scope=all,lr=0.01);50%..:infer"
    made = ("--method", method, "--profile", "native", "--policy", policy, "--save-learned", learned)
    done = sttx("compress", source, "-o", out, *made, "--json")
    assert done.json["profile"] == "native" and "profile native computes" in done.err
    assert sttx("info", "size", source, *made[:6], "--json").json["bytes_out"] == done.json["bytes_out"]
    with Archive(out) as opened:
        half = opened.entries[0].coded // 2  # of the text that the lines of JSON become
    canonical = f"{method};policy:schedule=0..{half}:train(scope=all,lr=0.01);{half}..:infer"
    assert done.json["method"] == canonical
    assert sttx("decompress", out, "-o", tmp_path / "again").code == 0
    assert (tmp_path / "again").read_bytes() == source.read_bytes()
    shown = "".join(sttx("list", out).out.split())
    network = sttx("list", out, "--json").json["network"]
    for part in (canonical, "profilenative", "coderac", network["model"], network["fingerprint"]["probe"]):
        assert part in shown
    report = sttx("inspect", learned, "--json").json
    assert (report["kind"], report["learning"]["scope"], report["model"]["id"]) == (
        "coding",
        ["all"],
        "random",
    )
    assert "while `sttx compress` coded" in sttx("inspect", learned).out
    again = tmp_path / "more.sttx"
    more = ("--method", f"{method};policy:{policy};load_from={learned}", "--profile", "native")
    assert sttx("compress", source, "-o", again, *more).code == 0
    assert (
        f"checkpoint, SHA-256 {sttx('list', again, '--json').json['network']['learned']}"
        in sttx("list", again).out
    )
    assert sttx("test", again).code == 1
    assert sttx("test", again, "--checkpoint", learned).code == 0
