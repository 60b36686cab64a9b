"""A run in plain sentences: what it cost, what was gained, what there is now. Knows only the report."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def run_summary(report: Mapping[str, Any]) -> str:
    """Tell a run's report as a few lines for a person."""
    lines = [_length(report), _price(report), _phrases(report), _learned(report)]
    lines += [redacted_line(report.get("source", {}).get("redacted", {})), _where(report)]
    return "\n".join(line for line in lines if line)


def redacted_line(counts: Mapping[str, int]) -> str:
    """Tell in one line what redaction took out, most first.

    >>> redacted_line({"email": 1, "npm-token": 2})
    'Redacted: 3 (npm-token 2, email 1).'
    """
    if not counts:
        return ""
    most = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return f"Redacted: {sum(counts.values()):,} ({', '.join(f'{name} {count:,}' for name, count in most)})."


def gain(paid: float | None, frozen: float | None) -> str:
    """Say how two prices compare.

    >>> gain(1.6, 2.0)
    '20.0% gained by learning'
    """
    if not paid or not frozen:
        return ""
    percent = 100 * (1 - paid / frozen)
    return f"{abs(percent):.1f}% {'gained' if percent >= 0 else 'lost'} by learning"


def _length(report: Mapping[str, Any]) -> str:
    told = f"{report['steps']:,} steps over {report['bytes']:,} bytes ({report['tokens']:,} tokens)"
    if not report["steps_this_run"] and report["ended"] != "interrupted":
        if not report["steps"]:
            return "Nothing to learn from: no trace that was read has any text."
        return f"Nothing was left to learn from: still {told}."
    if report["steps_this_run"] != report["steps"]:
        told += f", {report['steps_this_run']:,} of them now"
    told += f" in {report['seconds']:.1f} s."
    if report["ended"] == "interrupted":
        return f"Interrupted. {told}"
    if report["ended"] == "end of stream" and report["steps_wanted"]:
        return f"The stream ended before step {report['steps_wanted']:,}. {told}"
    return told


def _price(report: Mapping[str, Any]) -> str:
    paid, frozen = report["bpb"]["paid"], report["bpb"]["frozen"]
    if paid is None:
        return "Nothing was paid for yet: no window was full."
    told = f"Paid {paid:.3f} bits per byte, each window before it was learned from"
    if frozen is None:
        return f"{told}."
    return f"{told}; the frozen model would have paid {frozen:.3f}: {gain(paid, frozen)}."


def _phrases(report: Mapping[str, Any]) -> str:
    phrases = report["phrases"]
    if phrases["mode"] == "off":
        return "Phrases were off."
    share = 100 * phrases["steps_saved"] / report["tokens"] if report["tokens"] else 0.0
    told = (
        f"Phrases: {phrases['live']:,} live, {phrases['promotions']:,} found in all; they saved {share:.1f}% "
    )
    told += f"of the model's steps ({phrases['steps_saved']:,} of {report['tokens']:,})."
    if not phrases["decided"]:
        return f"{told} Whether they cost bits is not known yet."
    return told if phrases["on"] else f"{told} They are off for now, since they cost bits."


def _learned(report: Mapping[str, Any]) -> str:
    told = f"{report['trainable_parameters']:,} numbers learned (scope {','.join(report['scope'])})"
    if report["skipped_steps"]:
        told += f"; {report['skipped_steps']:,} steps changed nothing, since their gradient was not finite"
    return f"{told}; model {report['model']['id']} on {report['device']}, kernel {report['kernel']}."


def _where(report: Mapping[str, Any]) -> str:
    if report["checkpoint"] is None:
        return ""
    folder = PurePath(report["checkpoint"]).parent
    return (
        f"Checkpoint: {report['checkpoint']}\n"
        f"Look at it with `sttx inspect {folder}` and `sttx merge-stats {folder}`; "
        f"go on with the same command and --resume, {_onward(report)}."
    )


def _onward(report: Mapping[str, Any]) -> str:
    """Say what a resumed run needs, or it would have nothing to do."""
    wanted = {"steps": "and more --steps", "end of stream": "once there are more sessions"}
    return wanted.get(report["ended"], "from where it was saved")
