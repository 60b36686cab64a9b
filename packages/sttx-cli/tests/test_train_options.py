"""Every option of `sttx train` has the effect that its help names."""

import click
import pytest

from sttx_cli.app import cli
from sttx_cli.commands.train import command
from sttx_cli.commands.train import command as train
from sttx_train import CheckpointStore

# Options that change the price, each with the options that the comparison needs.
CHANGES_THE_PRICE = {
    "--inject start": "",
    "--inject none": "",
    "--lr-state 0": "",
    "--lr-hypernet 1": "--phrases on",
    "--lr-bias 0": "--scope bias",
    "--lr-vectors 0": "--scope vectors",
    "--lr-weights 0": "--scope head",
    "--weight-decay 0.5": "",
    "--clip 0.0001": "",
    "--replay-rows 0": "",
    "--replay-weight 3": "",
    "--phrases off": "--phrases on",
    "--phrase-pair-window 4": "--phrases on",
    "--phrase-threshold 50": "--phrases on",
    "--phrase-capacity 2": "--phrases on",
    "--phrase-max-length 2": "--phrases on",
    "--seed 7": "--replay-rows 2 --steps 16",
    "--scope bias": "",
    "--state-lr 0.1": "",
    "--state-decay 0.5": "--state-lr 0.1",
    "--batch 2": "",
    "--window 32": "",
    "--experts off": "",
    "--loss mixed": "--phrases off",
    "--dtype bfloat16": "",
    "--policy schedule=0..64:infer;64..:train": "",
    "--policy schedule=0..50%:train;50%..:infer": "",
}
SEEN_ELSEWHERE = {
    "--from",
    "--follow",
    "--since",
    "--no-redact",
    "--redact-rules",
    "--checkpoint-dir",
    "--resume",
    "--api-pairs",
    "--model",
    "--state",
    "--json",
    "--verbose",
    "--steps",
    "--device",
    "--kernel",
    "--threads",
    "--checkpoint-every",
    "--keep",
    "--replay-capacity",
    "--max-documents",
    "--frozen",
    "--memory",
    "--bank-states",
}


@pytest.fixture
def trained(sttx, base, tmp_path):
    """Return a function that runs with some options and returns the report."""

    def run(*options: object):
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        result = sttx(*base, *options, "--checkpoint-dir", folder)
        assert result.code == 0, result.err
        return result.json

    return run


def test_every_option_is_tested():
    options = {param.opts[0] for param in command.params if isinstance(param, click.Option)}
    tried = {option.split()[0] for option in CHANGES_THE_PRICE}
    assert tried | SEEN_ELSEWHERE == options
    assert cli.get_command(click.Context(cli), "train") is train


@pytest.mark.parametrize(("option", "beside"), CHANGES_THE_PRICE.items(), ids=CHANGES_THE_PRICE)
def test_an_option_changes_the_price(trained, option, beside):
    without = trained(*beside.split())
    assert trained(*beside.split(), *option.split())["bpb"] != without["bpb"]
    assert trained(*beside.split())["bpb"] == without["bpb"], "the same command, the same price"


def test_without_injection_paid_equals_frozen(trained):
    bpb = trained("--inject", "none", "--phrases", "off")["bpb"]
    assert bpb["paid"] != bpb["network"] == bpb["frozen"]


def test_without_experts_the_network_pays(trained):
    bpb = trained("--experts", "off")["bpb"]
    assert bpb["paid"] == bpb["network"]
    assert trained()["bpb"]["network"] == bpb["network"], "what the network learns does not change"


@pytest.mark.parametrize(
    ("scope", "extra"),
    [
        ("bias", lambda model: 257),
        ("head", lambda model: 257 * 64),
        ("vectors", lambda model: sum(p.numel() for n, p in model if p.ndim == 1 or n.endswith("r_k"))),
        ("all", lambda model: sum(p.numel() for _, p in model)),
    ],
    ids=["bias", "head", "vectors", "all"],
)
def test_a_scope_trains_its_parameters(trained, tiny_model, scope, extra):
    from sttx_train import load_model

    report = trained("--scope", scope, "--steps", 1)
    assert report["trainable_parameters"] == extra(list(load_model(tiny_model).model.named_parameters()))
    assert report["scope"] == [scope]


def test_scopes_add_up(trained):
    one, two, both = (trained("--scope", scope, "--steps", 1) for scope in ("state", "bias", "bias,state"))
    assert both["trainable_parameters"] == one["trainable_parameters"] + two["trainable_parameters"]
    assert both["scope"] == ["state", "bias"]


def test_without_the_frozen_model_there_is_no_comparison(trained):
    report, with_it = trained("--no-frozen"), trained()
    assert report["bpb"]["frozen"] is None
    assert report["bpb"]["network"] == with_it["bpb"]["network"]


def test_bounds_are_kept(trained):
    report = trained("--replay-capacity", 3, "--max-documents", 1, "--phrases", "on", "--phrase-capacity", 5)
    assert (report["replay"]["size"], report["sessions"]["carried"], report["phrases"]["live"]) == (3, 1, 5)
    assert report["phrases"]["evictions"] > 0


def test_without_replay_nothing_is_drawn(trained):
    assert trained("--replay-rows", 0)["replay"] == {"size": 0, "draws": 0}


def test_without_phrases_no_steps_are_saved(trained):
    report = trained("--phrases", "off")["phrases"]
    assert (report["mode"], report["on"], report["steps_saved"], report["merges"]) == ("off", False, 0, 0)
    assert trained("--phrases", "on")["phrases"]["steps_saved"] > 0


def test_max_length_limits_phrases(trained, sttx):
    report = trained("--phrases", "on", "--phrase-max-length", 2)
    rows = sttx("merge-stats", report["checkpoint"], "--json").json["phrases"]
    assert {row["length"] for row in rows} == {2}


def test_a_batch_has_windows_of_several_sessions(trained):
    assert trained("--batch", 2)["windows"] == 16
    assert trained()["windows"] == 8


def test_checkpoints_are_saved_and_removed(trained):
    def steps(*options: object) -> list[int]:
        folder = CheckpointStore(trained(*options)["checkpoint"]).directory.parent
        return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))

    assert steps("--checkpoint-every", 0) == [8]
    assert steps("--checkpoint-every", 3) == [3, 6, 8]
    assert steps("--checkpoint-every", 1, "--keep", 2) == [7, 8]


def test_the_kernel_that_was_asked_for_ran(trained):
    asked, chosen = trained("--kernel", "recurrent"), trained()
    assert (asked["kernel"], asked["kernel_reason"]) == ("recurrent", "asked for")
    assert asked["bpb"]["frozen"] == pytest.approx(chosen["bpb"]["frozen"], rel=1e-4)
    assert chosen["kernel"] != "recurrent"


def test_dtype_and_device_are_reported(trained):
    report = trained("--dtype", "bfloat16", "--steps", 1)
    assert (report["dtype"], report["device"]) == ("bfloat16", "cpu")


def test_the_named_model_is_used(trained, other_model):
    report = trained("--model", other_model)
    assert report["model"]["id"] == "other"
    assert report["bpb"]["frozen"] != trained()["bpb"]["frozen"]


def test_a_bank_of_states_is_counted(trained):
    assert "bank" not in trained()
    bank = trained("--memory", "bank", "--bank-states", "3")["bank"]
    assert bank["capacity"] == 3
    assert (bank["states"] > 0) == (bank["bytes"] > 0) == (bank["taken_in"] > 0)


def test_a_size_of_no_bank_is_refused(sttx, base, tmp_path):
    result = sttx(*base, "--bank-states", "3", "--checkpoint-dir", tmp_path / "run")
    assert result.code == 2
    assert "--bank-states would have no effect: there is no bank without --memory bank" in result.err
