"""`sttx merge-stats`: the phrases themselves."""

import pytest

from sttx_core.tokenizers import ByteTokenizer


@pytest.fixture(scope="module")
def told(finished):
    from sttx_train.inspect.run import merge_stats

    return merge_stats(finished)


def test_the_json_is_whole(sttx, finished, told):
    result = sttx("merge-stats", finished, "--json")
    assert (result.code, result.err, result.json) == (0, "", told)
    assert told["shown"] == len(told["phrases"]) == told["totals"]["live"] > 10
    for row in told["phrases"]:
        assert row.keys() >= {"text", "length", "uses", "steps_saved"}
        assert row["steps_saved"] == row["uses"] * (row["length"] - 1)
        assert len(ByteTokenizer().encode(row["text"])) == row["length"] > 1


def test_the_totals_are_the_runs(sttx, finished, told):
    assert told["totals"] == sttx("inspect", finished, "--json").json["phrases"]


def test_those_that_saved_most_come_first(told):
    saved = [row["steps_saved"] for row in told["phrases"]]
    assert saved == sorted(saved, reverse=True) and saved[0] > saved[-1]


def test_the_table_shows_them_all(sttx, finished, told):
    lines = sttx("merge-stats", finished).out.splitlines()
    totals = told["totals"]
    assert lines[0] == (
        f"{told['checkpoint']}: {totals['live']:,} phrases live, {totals['promotions']:,} found, "
        f"{totals['evictions']:,} evicted; {totals['steps_saved']:,} of 512 steps saved"
    )
    assert lines[1].split() == ["steps", "saved", "uses", "length", "phrase"]
    assert len(lines) == 2 + len(told["phrases"])
    best = told["phrases"][0]
    numbers, text = lines[2].split(maxsplit=3)[:3], lines[2].split(maxsplit=3)[3]
    assert numbers == [str(best[name]) for name in ("steps_saved", "uses", "length")]
    assert text.startswith('"') and text.endswith('"')


def test_only_the_top(sttx, finished, told):
    some = sttx("merge-stats", finished, "--top", 2, "--json").json
    assert (some["phrases"], some["shown"], some["totals"]) == (told["phrases"][:2], 2, told["totals"])
    assert len(sttx("merge-stats", finished, "--top", 2).out.splitlines()) == 4


def test_no_phrases_is_no_failure(sttx, base, tmp_path):
    assert sttx(*base, "--phrases", "off", "--steps", 1, "--checkpoint-dir", tmp_path / "run").code == 0
    result = sttx("merge-stats", tmp_path / "run")
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    assert "0 phrases live" in result.out


@pytest.mark.parametrize("top", [0, -3])
def test_a_top_that_is_none(sttx, finished, top):
    result = sttx("merge-stats", finished, "--top", top)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"sttx: --top must be at least 1, not {top}\n"


def test_what_is_not_there(sttx):
    result = sttx("merge-stats", "/no/such/run")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("sttx: no checkpoint at '/no/such/run'")


def test_a_model_has_no_phrases(sttx, tiny_model):
    result = sttx("merge-stats", tiny_model)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"sttx: no checkpoint in {str(tiny_model)!r}")
