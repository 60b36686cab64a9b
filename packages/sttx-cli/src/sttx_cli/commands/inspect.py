"""`sttx inspect`: explains a run, a checkpoint or any model file, as far as it can be told what it is."""

from collections.abc import Mapping
from typing import Any

import click

from sttx_cli.options import Name
from sttx_cli.output import emit_json, emit_table, facts, number
from sttx_cli.plain import plain
from sttx_cli.summary import gain


@click.command("inspect")
@click.argument("path", type=Name())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: str, as_json: bool) -> None:
    """Explain a run, a checkpoint or a model.

    PATH is the checkpoint folder of a run (its latest checkpoint is told, every byte of it verified), the
    folder of one step in it, or a model: a folder, a file, or goose-mini. A model's weights are not loaded;
    older architectures, tuned states and damaged files are explained too, with what can be done about them.
    """
    from sttx_train.inspect import inspect_path

    told = inspect_path(path)
    if as_json:
        emit_json(told)
        return
    kind = told["kind"]
    title = _TITLES.get(kind, "a checkpoint; every file as it was saved")
    if kind in _MODELS:
        title, rows = told["what"], _model(told)
    else:
        rows = _run(told) if kind == "stream" else _pretraining(told)
    emit_table(f"{path}: {title}", facts(rows))


_MOST_ORIGINS = 10
_TITLES = {
    "stream": "a run of `sttx train`; every file as it was saved",
    "pretrain": "a run of `sttx pretrain`; every file as it was saved",
    "pretrain-best": "the best of a run of `sttx pretrain`; every file as it was saved",
}
_HELD_OUT = {
    "loss": "nats per token",
    "bpb": "bits per byte",
    "phrases_loss": "nats per token over phrases",
    "phrases_bpb": "bits per byte over phrases",
}
_MODELS = ("model", "state", "other")


def _run(told: Mapping[str, Any]) -> dict[str, object]:
    bpb, phrases, replay, model = told["bpb"], told["phrases"], told["replay"], told["model"]
    saved = 100 * phrases["steps_saved"] / told["tokens"] if told["tokens"] else 0.0
    return {
        "checkpoint": told["checkpoint"],
        "saved": f"{told['created']}, {sum(told['files'].values()):,} bytes in {len(told['files'])} files",
        "steps": f"{told['steps']:,} ({told['tokens']:,} tokens, {told['bytes']:,} bytes)",
        "bits per byte paid": number(bpb["paid"]),
        "of the frozen model": f"{number(bpb['frozen'])}  {gain(bpb['paid'], bpb['frozen'])}".rstrip(),
        "phrases": f"{phrases['live']:,} live, {'on' if phrases['on'] else 'off'} ({phrases['mode']}"
        f"{'' if phrases['decided'] else ', not decided yet'}); "
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
    """Lay out what is known of a model file: what is not known has no row."""
    files = told["files"]
    rows = {
        "path": told["path"],
        "architecture": told["architecture"],
        "format": _format(told),
        "size": f"{told['bytes']:,} bytes" + (f" in {len(files)} files" if len(files) > 1 else ""),
        "parameters": f"{told['parameters']:,}" if "parameters" in told else None,
        "number type": ", ".join(
            dtype if len(told["dtypes"]) == 1 else f"{dtype} ({count:,})"
            for dtype, count in told.get("dtypes", {}).items()
        ),
        **_sizes(told["sizes"] or {}),
        "vocabulary": _vocabulary(told),
        "hypernetwork": _hypernetwork(told),
        "sha256": told.get("model", {}).get("sha256"),
        "metadata": "\n".join(f"{name}: {text}" for name, text in told.get("metadata", {}).items()),
        "problem": "\n".join(told["problems"]),
        "what sttx can do": "\n".join(told["uses"])
        or ("nothing with it" if told["kind"] != "state" else None),
        "advice": told["advice"],
    }
    return {name: plain(str(value)) for name, value in rows.items() if value}


def _hypernetwork(told: Mapping[str, Any]) -> str | None:
    beside = told["hypernetwork"]
    return beside and f"{beside['parameters']:,} parameters: it has learned to read over phrases"


def _format(told: Mapping[str, Any]) -> str | None:
    container = {"safetensors": ".safetensors", "pth": ".pth"}.get(told.get("container", ""))
    return ", ".join(word for word in (told.get("format"), container) if word) or None


def _sizes(sizes: Mapping[str, Any]) -> dict[str, str | None]:
    layers = (
        sizes.get("num_layers") and f"{sizes['num_layers']} of {sizes.get('hidden_size') or 'unknown width'}"
    )
    words = {"head_size": "heads of", "ffn_size": "channel mix"}
    more = [f"{word} {sizes[name]}" for name, word in words.items() if sizes.get(name)]
    ranks = [
        f"{name} {sizes[f'{name}_rank']}" for name in ("decay", "a", "v", "gate") if f"{name}_rank" in sizes
    ]
    return {"layers": ", ".join([layers, *more]) if layers else None, "low ranks": ", ".join(ranks)}


def _vocabulary(told: Mapping[str, Any]) -> str | None:
    rows = (told["sizes"] or {}).get("vocab_size")
    if told["vocabulary"] is None:
        return f"{rows:,} rows" if rows else None
    entries, sha256 = told["vocabulary"]["entries"], told["vocabulary"]["sha256"]
    return f"{entries:,} ids for {rows:,} rows, sha256 {sha256[:16]}…"


def _pretraining(told: Mapping[str, Any]) -> dict[str, object]:
    """Lay out a run of pretraining; what its checkpoint and metrics do not have has no row."""
    config, figures = told.get("config") or {}, told.get("figures") or {}
    model, progress = told.get("model") or {}, told.get("progress") or {}
    tokens, seconds = progress.get("tokens", figures.get("tokens")), told.get("seconds")
    steps = [
        f"{told['step']:,}",
        f"{tokens:,.0f} tokens" if tokens is not None else "",
        f"{progress['epochs']:.2f} epochs" if "epochs" in progress else "",
        f"{seconds:,.0f} seconds" if seconds is not None else "",
    ]
    layers, width = config.get("layers"), config.get("hidden_size")
    layers, width = model.get("num_layers", layers), model.get("hidden_size", width)
    sizes = [f"{layers} layers of {width}" if layers and width else ""]
    sizes += [f"{told['parameters']:,} parameters"] if told.get("parameters") else []
    rows = {
        "checkpoint": told["checkpoint"],
        "saved": f"{told['created']}, {sum(told['files'].values()):,} bytes in {len(told['files'])} files",
        "steps": ", ".join(word for word in steps if word),
        "loss": f"{number(figures['loss'])} nats per token" if "loss" in figures else None,
        "held out": _held_out(told.get("held_out") or {}),
        "model": ", ".join(word for word in sizes if word),
        "settings": ", ".join(f"{name} {value}" for name, value in config.items()),
    }
    return {name: value for name, value in rows.items() if value}


def _held_out(told: Mapping[str, Any]) -> str:
    """Say what was held out, a line a figure; how many tokens that was is no figure."""
    lines = []
    for name, figures in told.items():
        unit = _HELD_OUT.get(name.removeprefix("held_out").strip("_.") or "loss")
        if unit is not None:
            best = f"best {number(figures['best'])} at step {figures['best_step']:,}"
            lines.append(f"{number(figures['last'])} {unit}, {best}")
    return "\n".join(lines)
