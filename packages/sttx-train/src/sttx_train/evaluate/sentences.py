"""What a report of an evaluation says, in sentences. Knows only the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sttx_train.evaluate.controls import beats

_HOW = {"network": "Alone", "paid": "Beside experts"}


def sentences(report: Mapping[str, Any]) -> list[str]:
    """Return the sentences of a report, in the order of its parts."""
    lines = [_seen(report), *_gains(report["differences"])]
    if report["learned"] is not None and report["controls"] is None:
        lines.append(f"{report['learned']!r} has no tuned state, so there are no controls.")
    if report["controls"] is not None:
        lines += [_verdict(report["controls"], how) for how in _HOW]
        lines.append(f"The donor is {report['donor']}.")
    lines += [_forgetting(report["forgetting"]), _transfer(report["transfer"])]
    return [line for line in lines if line]


def with_interval(value: float, interval: Sequence[float] | None) -> str:
    """Write a number with its interval.

    >>> with_interval(0.1234, [0.1, 0.15]), with_interval(-0.5, None)
    ('0.123 (0.100 to 0.150)', '-0.500')
    """
    return f"{value:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _seen(report: Mapping[str, Any]) -> str:
    seen, learned = report["seen_sessions"], report["learned"]
    if not seen:
        return ""
    return (
        f"{learned!r} was learned from {seen:,} of these {len(report['sessions']):,} sessions or more: what "
        "it pays for them here does not show what it pays for new text."
    )


def _gains(differences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    words = {
        "network-frozen": "Learning gains {} bits per byte alone, network against frozen",
        "paid-experts": "Beside experts, what is learned gains {} bits per byte, paid against experts",
    }
    lines = []
    for name, text in words.items():
        if name in differences:
            value, interval = differences[name]["bpb"], differences[name]["interval"]
            turned = None if interval is None else [-interval[1], -interval[0]]
            lines.append(f"{text.format(with_interval(-value, turned))}{_why_no_interval(interval)}.")
    return lines


def _why_no_interval(interval: Sequence[float] | None) -> str:
    return "; an interval takes two sessions or more" if interval is None else ""


def _verdict(controls: Mapping[str, Mapping[str, Any]], how: str) -> str:
    """Say whether the state beat its controls, and by how much."""
    beaten = beats(controls, how)
    left = [name for name in controls if name not in beaten]
    if not left:
        verdict = "the state beat its controls"
    elif all(controls[name][how]["interval"] is None for name in controls):
        verdict = "one session does not show whether the state beats its controls"
    else:
        verdict = f"the state did not beat {', '.join(left[:-1])}{' and ' * (len(left) > 1)}{left[-1]}"
    leads = [
        f"{with_interval(control[how]['lead'], control[how]['interval'])} against {name}"
        for name, control in controls.items()
    ]
    return f"{_HOW[how]}, {verdict}: it saves {', '.join(leads)} bits per byte."


def _forgetting(forgetting: Mapping[str, Any]) -> str:
    learned, frozen, paid, experts = (forgetting[name] for name in ("learned", "frozen", "paid", "experts"))
    if learned is None:
        return ""
    text = (
        f"For general text the learned network pays {learned:.3f} bits per byte and the frozen one "
        f"{frozen:.3f}: {_more(learned, frozen)}"
    )
    if paid is None or experts is None:
        return f"{text}."
    return f"{text}; beside experts {paid:.3f} and {experts:.3f}: {_more(paid, experts)}."


def _more(value: float, other: float) -> str:
    percent = 100 * (value / other - 1)
    return f"{abs(percent):.1f}% {'more' if percent >= 0 else 'less'}"


def _transfer(transfer: Mapping[str, Any] | None) -> str:
    if transfer is None or transfer["lead"] is None:
        return ""
    late = f"{transfer['sessions']:,} session{'s' if transfer['sessions'] > 1 else ''}"
    return (
        f"A state tuned on the first {transfer['tuned_on']:,} sessions saves "
        f"{with_interval(transfer['lead'], transfer['interval'])} bits per byte on the last {late}, which it "
        f"has not seen: {transfer['tuned']:.3f} instead of {transfer['frozen']:.3f}."
    )
