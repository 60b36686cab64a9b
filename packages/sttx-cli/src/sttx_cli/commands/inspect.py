"""`sttx inspect`: explains a run, a checkpoint or any model file."""

from collections.abc import Mapping
from typing import Any

import click

from sttx_cli.options import Name
from sttx_cli.output import count, emit_json, emit_table, facts, number
from sttx_cli.progress import progress_bar
from sttx_cli.runs import checkpoint_option, may_be_model, named_run
from sttx_cli.summary import gain
from sttx_core.errors import ModelError, UsageError
from sttx_train.formats import EMBEDDED


@click.command("inspect")
@click.argument("path", type=Name(), required=False)
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(path: str | None, checkpoint: str | None, as_json: bool) -> None:
    """Explain a run, a checkpoint or a model.

    PATH is the folder of a run or RUN/latest (its latest checkpoint is explained), the folder of one
    checkpoint, or a model: a folder, a file, an id on the Hugging Face hub, or goose-mini. --checkpoint PATH
    means the same. Every byte of a checkpoint is verified. A model's weights are not loaded; older
    architectures, tuned states and damaged files are explained too, with what can be done about them. A
    model with a problem that leaves nothing to do with it is an error too.
    """
    path = named_run(path, checkpoint, models=True)
    if not may_be_model(path, EMBEDDED):
        raise UsageError(
            f"no run or model at {path!r}: give its folder, a model's file, an id on the Hugging Face hub, "
            f"or {EMBEDDED!r}"
        )
    with progress_bar("reading"):
        from sttx_ccsniff import check_cursor
        from sttx_train.inspect import inspect_path

        report = inspect_path(path, check_cursor=check_cursor)
    if as_json:
        emit_json(report)
    else:
        _emit(path, report)
    if report["kind"] in _MODELS and report["problems"] and not report["uses"]:
        raise ModelError(report["problems"][0])


def _emit(path: str, report: Mapping[str, Any]) -> None:
    kind = report["kind"]
    title = _TITLES.get(kind, "a checkpoint; every file as it was saved")
    if kind in _MODELS:
        title, rows = report["what"], _model(report)
    else:
        rows = {"stream": _run, "tune": _tuning, "coding": _coding}.get(kind, _pretraining)(report)
    emit_table(f"{path}: {title}", facts(rows))


_MOST_ORIGINS = 10
_TITLES = {
    "stream": "a run of `sttx train`; every file as it was saved",
    "pretrain": "a run of `sttx pretrain`; every file as it was saved",
    "tune": "a run of `sttx tune`; every file as it was saved",
    "coding": "what a network learned while `sttx compress` coded; every file as it was saved",
    "pretrain-best": "the best of a run of `sttx pretrain`; every file as it was saved",
}
_VALIDATION = {
    "loss": "nats per token",
    "bpb": "bits per byte",
    "phrases_loss": "nats per token with phrases",
    "phrases_bpb": "bits per byte with phrases",
}
_MODELS = ("model", "state", "other")


def _coding(report: Mapping[str, Any]) -> dict[str, object]:
    model = report["model"]
    return {
        "checkpoint": report["checkpoint"],
        "saved": _saved(report),
        "windows": f"{report['step']:,} of {report['window']} tokens",
        "learned": f"scope {','.join(report['learning']['scope'])}",
        "model": f"{model['id']}, sha256 {model['sha256'][:16]}…",
    }


def _run(report: Mapping[str, Any]) -> dict[str, object]:
    bpb, phrases, replay, model = report["bpb"], report["phrases"], report["replay"], report["model"]
    network = bpb.get("network", bpb["paid"])  # older runs had no experts
    saved = 100 * phrases["steps_saved"] / report["tokens"] if report["tokens"] else 0.0
    return {
        "checkpoint": report["checkpoint"],
        "saved": _saved(report),
        "steps": f"{report['steps']:,} ({report['tokens']:,} tokens, {report['bytes']:,} bytes)",
        "bits per byte paid": number(bpb["paid"]),
        "without experts": number(network),
        "of the frozen model": f"{number(bpb['frozen'])}  {gain(network, bpb['frozen'])}".rstrip(),
        "phrases": _phrases(phrases),
        "positions saved": f"{phrases['steps_saved']:,} ({saved:.1f}%)",
        "replay": f"{replay['size']:,} windows, drawn {replay['draws']:,} times",
        "documents carried": f"{report['sessions']['carried']:,}",
        **({"bank of states": _bank(report["bank"])} if "bank" in report else {}),
        "learned": f"{report['trainable_parameters']:,} parameters (scope {','.join(report['scope'])})",
        "policy": report["stream"].get("policy") or "always learns",
        "norm of S0": number(report["norm_s0"]),
        "model": f"{model['id']}: {count(model['num_layers'], 'layer')} of {model['hidden_size']}, "
        f"{model['vocab_size']:,} tokens, sha256 {model['sha256'][:16]}…",
        "device": f"{report['device']}, {report['dtype']}",
        "kernel": f"{report['kernel']} ({report['kernel_reason']})",
        "traces read": _origins(report["taken"]),
    }


def _bank(bank: Mapping[str, Any]) -> str:
    """Write how many states a bank holds, of how many at most, and their size."""
    return (
        f"{bank['states']:,} of at most {bank['capacity']:,}, {bank['bytes']:,} bytes; means of "
        f"{count(bank['taken_in'], 'state')}"
    )


def _phrases(phrases: Mapping[str, Any]) -> str:
    """Write how many phrases there are, and whether the model reads them."""
    if phrases["mode"] == "off":
        return "off"
    if phrases["mode"] == "on":
        use = "always used, as asked"
    elif not phrases["decided"]:
        use = "too few steps to tell whether they help"
    elif phrases["on"]:
        use = "used, because they do not raise the bits per byte"
    else:
        use = "not used, because they raise the bits per byte"
    found, removed = phrases["promotions"], phrases["evictions"]
    return f"{phrases['live']:,} live ({found:,} found so far, {removed:,} removed again); {use}"


def _saved(report: Mapping[str, Any]) -> str:
    sizes = report["files"].values()
    return f"{report['created']}, {sum(sizes):,} bytes in {len(sizes)} files"


def _origins(taken: Mapping[str, int]) -> list[str]:
    shown = [f"{count:,} of {origin}" for origin, count in list(taken.items())[:_MOST_ORIGINS]]
    if len(taken) > _MOST_ORIGINS:
        shown.append(f"and of {len(taken) - _MOST_ORIGINS:,} more")
    return shown or ["none"]


def _state(size: Mapping[str, int] | None) -> str | None:
    if size is None:
        return None
    return f"{size['numbers']:,} numbers a document, {size['bytes']:,} bytes in float32"


def _model(report: Mapping[str, Any]) -> dict[str, object]:
    """Lay out what is known of a model file; what is unknown has no row."""
    files = report["files"]
    rows = {
        "path": report["path"],
        "architecture": report["architecture"],
        "format": _format(report),
        "size": f"{report['bytes']:,} bytes" + (f" in {len(files)} files" if len(files) > 1 else ""),
        "parameters": _parameters(report),
        "multiplications": f"{report['multiplications']:,} a token" if "multiplications" in report else None,
        "forms": [f"{count} matrices: {form}" for form, count in report.get("forms", {}).items()],
        "inner steps": report.get("inner_steps"),
        "state": _state(report.get("state")),
        "dtype": ", ".join(
            dtype if len(report["dtypes"]) == 1 else f"{dtype} ({count:,})"
            for dtype, count in report.get("dtypes", {}).items()
        ),
        **_sizes(report["sizes"] or {}),
        "vocabulary": _vocabulary(report),
        "hypernetwork": _hypernetwork(report),
        "sha256": report.get("model", {}).get("sha256"),
        "metadata": [f"{name}: {text}" for name, text in report.get("metadata", {}).items()],
        "note": report["notes"],
        "problem": report["problems"],
        "what sttx can do": report["uses"] or ("nothing with it" if report["kind"] != "state" else None),
        "advice": report["advice"],
    }
    return {name: value for name, value in rows.items() if value}


def _parameters(report: Mapping[str, Any]) -> str | None:
    if "parameters" not in report:
        return None
    dense = f", {report['dense_parameters']:,} if all were dense" if "dense_parameters" in report else ""
    return f"{report['parameters']:,}{dense}"


def _hypernetwork(report: Mapping[str, Any]) -> str | None:
    hypernetwork = report["hypernetwork"]
    return hypernetwork and f"{hypernetwork['parameters']:,} parameters, trained to make vectors of phrases"


def _format(report: Mapping[str, Any]) -> str | None:
    container = {"safetensors": ".safetensors", "pth": ".pth"}.get(report.get("container", ""))
    return ", ".join(word for word in (report.get("format"), container) if word) or None


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


def _vocabulary(report: Mapping[str, Any]) -> str | None:
    rows = (report["sizes"] or {}).get("vocab_size")
    if report["vocabulary"] is None:
        return f"{rows:,} rows" if rows else None
    entries, sha256 = report["vocabulary"]["entries"], report["vocabulary"]["sha256"]
    return f"{entries:,} ids for {rows:,} rows, sha256 {sha256[:16]}…"


def _tuning(report: Mapping[str, Any]) -> dict[str, object]:
    progress, model = report["progress"], report["model"]
    rows = {
        "checkpoint": report["checkpoint"],
        "saved": _saved(report),
        "steps": f"{report['step']:,}, {progress['tokens']:,} tokens, {progress['seconds']:,.0f} seconds",
        "validation": progress["best_bpb"]
        and f"{number(progress['before'])} bits per byte before, {number(progress['best_bpb'])} at step "
        f"{progress['best_step']:,}",
        "model": f"{model['id']}, sha256 {model['sha256'][:16]}…",
        "device": f"{report['device']}, {report['dtype']}",
        "settings": ", ".join(f"{name} {value}" for name, value in report["config"].items()),
    }
    return {name: value for name, value in rows.items() if value}


def _pretraining(report: Mapping[str, Any]) -> dict[str, object]:
    """Lay out a run of pretraining; what its checkpoint and metrics lack has no row."""
    config, metrics = report.get("config") or {}, report.get("metrics") or {}
    model, progress = report.get("model") or {}, report.get("progress") or {}
    tokens, seconds = progress.get("tokens", metrics.get("tokens")), report.get("seconds")
    steps = [
        f"{report['step']:,}",
        f"{tokens:,.0f} tokens" if tokens is not None else "",
        f"{progress['epochs']:.2f} epochs" if "epochs" in progress else "",
        f"{seconds:,.0f} seconds" if seconds is not None else "",
    ]
    layers, width = config.get("layers"), config.get("hidden_size")
    layers, width = model.get("num_layers", layers), model.get("hidden_size", width)
    sizes = [f"{count(layers, 'layer')} of {width}" if layers and width else ""]
    sizes += [f"{report['parameters']:,} parameters"] if report.get("parameters") else []
    rows = {
        "checkpoint": report["checkpoint"],
        "saved": _saved(report),
        "steps": ", ".join(word for word in steps if word),
        "loss": f"{number(metrics['loss'])} nats per token" if "loss" in metrics else None,
        "validation": _validation(report.get("validation") or {}),
        "model": ", ".join(word for word in sizes if word),
        "settings": ", ".join(f"{name} {value}" for name, value in config.items()),
    }
    return {name: value for name, value in rows.items() if value}


def _validation(report: Mapping[str, Any]) -> list[str]:
    """Write the validation results, one line for each; the number of tokens is left out."""
    lines = []
    for name, result in report.items():
        unit = _VALIDATION.get(name.removeprefix("validation").strip("_.") or "loss")
        if unit is not None:
            best = f"best {number(result['best'])} at step {result['best_step']:,}"
            lines.append(f"{number(result['last'])} {unit}, {best}")
    return lines
