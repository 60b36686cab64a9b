"""`sttx inspect`: explains a run, a checkpoint or a model, having verified it."""

from collections.abc import Mapping
from typing import Any

import click

from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, facts, number
from sttx_cli.summary import gain
from sttx_train.inspection import inspect_path


@click.command("inspect")
@click.argument("path", type=Name())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: str, as_json: bool) -> None:
    """Explain a run, a checkpoint or a model.

    PATH is the checkpoint folder of a run (its latest checkpoint is told, every byte of it verified), the
    folder of one step in it, or a model: a folder, a file, or goose-mini.
    """
    told = inspect_path(path)
    if as_json:
        emit_json(told)
        return
    tellers = {"stream": _run, "model": _model}
    rows = tellers.get(told["kind"], _other)(told)
    emit_table(f"{path}: {_TITLES[told['kind']]}", facts(rows))


_MOST_ORIGINS = 10
_TITLES = {
    "stream": "a run of `sttx train`; every file as it was saved",
    "pretrain": "a run of `sttx pretrain`; every file as it was saved",
    "model": "a model",
}


def _run(told: Mapping[str, Any]) -> dict[str, object]:
    bpb, phrases, replay, model = told["bpb"], told["phrases"], told["replay"], told["model"]
    saved = 100 * phrases["steps_saved"] / told["tokens"] if told["tokens"] else 0.0
    return {
        "checkpoint": told["checkpoint"],
        "saved": f"{told['created']}, {sum(told['files'].values()):,} bytes in {len(told['files'])} files",
        "steps": f"{told['steps']:,} ({told['tokens']:,} tokens, {told['bytes']:,} bytes)",
        "bits per byte paid": number(bpb["paid"]),
        "of the frozen model": f"{number(bpb['frozen'])}  {gain(bpb['paid'], bpb['frozen'])}".rstrip(),
        "phrases": f"{phrases['live']:,} live, {'on' if phrases['on'] else 'off'} ({phrases['mode']}); "
        f"{phrases['promotions']:,} found, {phrases['evictions']:,} evicted",
        "steps saved": f"{phrases['steps_saved']:,} ({saved:.1f}%)",
        "replay": f"{replay['size']:,} windows, drawn {replay['draws']:,} times",
        "sessions carried": f"{told['sessions']['carried']:,}",
        "learned": f"{told['trainable_parameters']:,} numbers (scope {','.join(told['scope'])})",
        "|S0|": number(told["norm_s0"]),
        "model": f"{model['id']}: {model['num_layers']} layers of {model['hidden_size']}, "
        f"{model['vocab_size']:,} tokens, sha256 {model['sha256'][:16]}…",
        "device": f"{told['device']}, {told['dtype']}",
        "kernel": f"{told['kernel']} ({told['kernel_reason']})",
        "traces taken in": _origins(told["taken"]),
    }


def _origins(taken: Mapping[str, int]) -> str:
    shown = [f"{count:,} of {origin}" for origin, count in list(taken.items())[:_MOST_ORIGINS]]
    if len(taken) > _MOST_ORIGINS:
        shown.append(f"and of {len(taken) - _MOST_ORIGINS:,} more")
    return "\n".join(shown) or "none"


def _model(told: Mapping[str, Any]) -> dict[str, object]:
    sizes = told["sizes"]
    return {
        "path": told["path"],
        "architecture": told["architecture"],
        "format": told["format"],
        "parameters": f"{told['parameters']:,}",
        "layers": f"{sizes['num_layers']} of {sizes['hidden_size']}, heads of {sizes['head_size']}, "
        f"channel mix {sizes['ffn_size']}",
        "low ranks": f"decay {sizes['decay_rank']}, a {sizes['a_rank']}, v {sizes['v_rank']}, "
        f"gate {sizes['gate_rank']}",
        "vocabulary": f"{told['vocabulary']['entries']:,} ids for {sizes['vocab_size']:,} rows, "
        f"sha256 {told['vocabulary']['sha256'][:16]}…",
        "sha256": told["model"]["sha256"],
    }


def _other(told: Mapping[str, Any]) -> dict[str, object]:
    config = told.get("config") or {}
    return {"checkpoint": told["checkpoint"], "step": f"{told['step']:,}", "saved": told["created"], **config}
