"""A run in plain sentences: what it paid, what learning gained, what was saved. Knows only the report."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from sttx_cli.output import count


def run_summary(report: Mapping[str, Any]) -> str:
    """Write a run's report as a few lines for a person."""
    lines = [_length(report), _price(report), _phrases(report), _learned(report), _bank(report)]
    lines += [redacted_line(report.get("source", {}).get("redacted", {})), _where(report)]
    return "\n".join(line for line in lines if line)


def redacted_line(counts: Mapping[str, int]) -> str:
    """Write in one line what was redacted since the command started, the most frequent rule first.

    >>> redacted_line({"email": 1, "npm-token": 2})
    'Redacted in this run: 3 (npm-token 2, email 1).'
    """
    if not counts:
        return ""
    most = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    by_rule = ", ".join(f"{name} {number:,}" for name, number in most)
    return f"Redacted in this run: {sum(counts.values()):,} ({by_rule})."


def gain(paid: float | None, frozen: float | None) -> str:
    """Write how the bits per byte of the network with and without learning compare.

    >>> gain(1.6, 2.0)
    '20.0% gained by learning'
    """
    if not paid or not frozen:
        return ""
    percent = 100 * (1 - paid / frozen)
    return f"{abs(percent):.1f}% {'gained' if percent >= 0 else 'lost'} by learning"


def _length(report: Mapping[str, Any]) -> str:
    text = f"{count(report['steps'], 'step')} over {report['bytes']:,} bytes ({report['tokens']:,} tokens)"
    if not report["steps_this_run"] and report["ended"] != "interrupted":
        if not report["steps"]:
            return "Nothing to learn from: no trace that was read has any text."
        if report["ended"] == "steps":
            return (
                f"Already at step {report['steps']:,} of --steps {report['steps_wanted']}: give more --steps."
            )
        return f"Nothing new to learn from: still {text}."
    if report["steps_this_run"] != report["steps"]:
        text += f", {report['steps_this_run']:,} of them now"
    text += f" in {report['seconds']:.1f} s."
    if report["ended"] == "interrupted":
        return f"Interrupted. {text}"
    if report["ended"] == "end of stream" and report["steps_wanted"]:
        return f"The stream ended before step {report['steps_wanted']:,}. {text}"
    return text


def _price(report: Mapping[str, Any]) -> str:
    bpb = report["bpb"]
    paid, network, frozen = bpb["paid"], bpb.get("network", bpb["paid"]), bpb["frozen"]
    if paid is None:
        return "Nothing was paid for yet: no window was full."
    text = f"Paid {paid:.3f} bits per byte, each window before it was learned from"
    alone = network != paid
    if alone:
        text += f". Without experts the network would have paid {network:.3f}"
    if frozen is None:
        return f"{text}."
    unlearned = ", and had it learned nothing" if alone else "; the frozen model would have paid"
    return f"{text}{unlearned} {frozen:.3f}: {gain(network, frozen)}."


def _phrases(report: Mapping[str, Any]) -> str:
    phrases = report["phrases"]
    if phrases["mode"] == "off":
        return "Phrases were off."
    if not phrases["decided"] and not phrases["steps_saved"]:
        return ""
    share = 100 * phrases["steps_saved"] / report["tokens"] if report["tokens"] else 0.0
    text = (
        f"Phrases: {phrases['promotions']:,} found, {phrases['live']:,} live; with them the model read "
        f"{phrases['steps_saved']:,} fewer positions than there were tokens ({share:.1f}%)."
    )
    if not phrases["decided"]:
        return f"{text} Too few steps to tell whether phrases help."
    return text if phrases["on"] else f"{text} They are not used now, because they raise the bits per byte."


def _learned(report: Mapping[str, Any]) -> str:
    text = f"{report['trainable_parameters']:,} parameters learned (scope {','.join(report['scope'])})"
    if report["skipped_steps"]:
        text += f"; {report['skipped_steps']:,} steps were skipped, because their gradient was not finite"
    return f"{text}; model {report['model']['id']} on {report['device']}, kernel {report['kernel']}."


def _bank(report: Mapping[str, Any]) -> str:
    if (bank := report.get("bank")) is None:
        return ""
    states = count(bank["states"], "state")
    return f"Bank: {states} of at most {bank['capacity']:,}, {bank['bytes']:,} bytes."


def _where(report: Mapping[str, Any]) -> str:
    if report["checkpoint"] is None:
        return ""
    folder = PurePath(report["checkpoint"]).parent
    return (
        f"Checkpoint: {report['checkpoint']}\n"
        f"See `sttx inspect {folder}` and `sttx merge-stats {folder}`; "
        f"continue with the same command and --resume{_needed(report)}."
    )


def _needed(report: Mapping[str, Any]) -> str:
    """Write what a resumed run needs in order to have something to do."""
    needed = {"steps": ", and more --steps", "end of stream": ", once there are more sessions"}
    return needed.get(report["ended"], "")
