"""`sttx merge-stats`: the phrases themselves."""

import pytest

from sttx_core.tokenizers import ByteTokenizer


@pytest.fixture(scope="module")
def report(finished):
    from sttx_train.inspect.run import merge_stats

    return merge_stats(finished)


def test_the_json_has_every_phrase(sttx, finished, report):
    result = sttx("merge-stats", finished, "--json")
    assert (result.code, result.err, result.json) == (0, "", report)
    assert report["shown"] == len(report["phrases"]) == report["totals"]["live"] > 10
    for row in report["phrases"]:
        assert row.keys() >= {"text", "length", "uses", "steps_saved"}
        assert row["steps_saved"] == row["uses"] * (row["length"] - 1)
        assert len(ByteTokenizer().encode(row["text"])) == row["length"] > 1


def test_the_totals_are_those_of_the_run(sttx, finished, report):
    assert report["totals"] == sttx("inspect", finished, "--json").json["phrases"]


def test_phrases_that_saved_most_come_first(report):
    saved = [row["steps_saved"] for row in report["phrases"]]
    assert saved == sorted(saved, reverse=True) and saved[0] > saved[-1]


def test_the_table_shows_every_phrase(sttx, finished, report):
    lines = sttx("merge-stats", finished).out.splitlines()
    totals = report["totals"]
    assert lines[0] == (
        f"{report['checkpoint']}: {totals['live']:,} phrases live, {totals['promotions']:,} found, "
        f"{totals['evictions']:,} evicted; {totals['steps_saved']:,} of 512 positions saved"
    )
    assert lines[1].split() == ["positions", "saved", "uses", "length", "phrase"]
    assert len(lines) == 2 + len(report["phrases"])
    best = report["phrases"][0]
    numbers, text = lines[2].split(maxsplit=3)[:3], lines[2].split(maxsplit=3)[3]
    assert numbers == [str(best[name]) for name in ("steps_saved", "uses", "length")]
    assert text.startswith('"') and text.endswith('"')


@pytest.mark.parametrize(
    "way", ["--checkpoint RUN", "--checkpoint RUN/latest", "RUN/latest", "RUN/step-00000008"]
)
def test_a_run_may_be_named_by_an_option_and_by_its_pointer(sttx, finished, report, way):
    words = way.replace("RUN", str(finished)).split()
    assert sttx("merge-stats", *words, "--json").json == report


def test_two_paths_or_none_are_refused(sttx, finished):
    assert sttx("merge-stats").code == 2
    result = sttx("merge-stats", finished, "--checkpoint", finished)
    assert result.code == 2 and "two paths are named" in result.err


def test_only_the_top(sttx, finished, report):
    some = sttx("merge-stats", finished, "--top", 2, "--json").json
    assert (some["phrases"], some["shown"], some["totals"]) == (report["phrases"][:2], 2, report["totals"])
    assert len(sttx("merge-stats", finished, "--top", 2).out.splitlines()) == 4


def test_a_run_without_phrases_is_not_an_error(sttx, base, tmp_path):
    assert sttx(*base, "--phrases", "off", "--steps", 1, "--checkpoint-dir", tmp_path / "run").code == 0
    result = sttx("merge-stats", tmp_path / "run")
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    assert "0 phrases live" in result.out


@pytest.mark.parametrize("top", [0, -3])
def test_a_top_below_one(sttx, finished, top):
    result = sttx("merge-stats", finished, "--top", top)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"sttx: --top must be at least 1, not {top}\n"


def test_a_missing_path(sttx):
    result = sttx("merge-stats", "/no/such/run")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("sttx: no checkpoint at '/no/such/run'")


def test_a_model_has_no_phrases(sttx, tiny_model):
    result = sttx("merge-stats", tiny_model)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"sttx: no checkpoint in {str(tiny_model)!r}")
