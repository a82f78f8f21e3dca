"""Numbers said in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_SPACE = "\N{NO-BREAK SPACE}"

CONTROLS = {
    "sft": "imitation: plain fine-tuning on the preferred answers, without a preference",
    "shuffled": "shuffled labels: which answer of a pair is preferred is decided by a coin",
    "reversed": "reversed labels: the weaker model's answer is preferred",
}
"""What the known controls are, in words."""

_LESSONS = {
    "sft": {
        "below": "Copying the weak models' answers makes the student worse, so the gain is not imitation.",
        "level": "Copying the weak models' answers gains nothing, so the gain is not imitation.",
        "above": "Copying the answers helps too, so part of the gain may be imitation.",
    },
    "shuffled": {
        "below": "Without a consistent preference the same training does harm.",
        "level": "Without a consistent preference the same training changes nothing measurable.",
        "above": "Training helps even without a consistent preference, so part of the gain is not due to the labels.",
    },
    "reversed": {
        "below": "The opposite preference pushes the student the opposite way: the direction is what teaches.",
        "level": "The opposite preference changes nothing measurable.",
        "above": "Even the opposite preference helps, so the direction of the preference is not what teaches here.",
    },
}


def number_word(number: int) -> str:
    """A small number in words."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def signed(value: float) -> str:
    """A difference with its sign, one decimal; zero has none."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else "−") + text


def interval(difference: Mapping[str, Any]) -> str:
    """A difference with its interval: ``+4.0 [1.2, 6.8]``."""
    return f"{signed(difference['mean'])} [{signed(difference['low'])}, {signed(difference['high'])}]"


def verdict(difference: Mapping[str, Any]) -> str:
    """``above``, ``below``, or ``level`` where the interval holds 0."""
    if difference["low"] > 0:
        return "above"
    return "below" if difference["high"] < 0 else "level"


def headline(results: Mapping[str, Any]) -> str:
    """The result of a run in one sentence, whatever it is."""
    of = "on average over the domains, " if len(results["domains"]) > 1 else ""
    return _headline(results["summary"], count=_deltas(results), of=of)


def domain_headline(domain: Mapping[str, Any]) -> str:
    """The result of a domain in one sentence."""
    return _headline(domain["summary"], count=_names(domain), of="")


def control_reading(control: str, differences: Mapping[float, Mapping[str, Any]]) -> str:
    """What a control shows, in plain words.

    Args:
        control: its name.
        differences: of its merge to the student, by scale λ. A gain at any of them counts as a gain; otherwise λ = 1,
            or the only scale there is, decides.
    """
    if control not in _LESSONS:
        return ""
    verdicts = {scale: verdict(difference) for scale, difference in differences.items()}
    if "above" in verdicts.values():
        return _LESSONS[control]["above"]
    return _LESSONS[control][verdicts.get(1, next(iter(verdicts.values())))]


def _headline(summary: Mapping[str, Any], *, count: int, of: str) -> str:
    gain, over = summary["gain_over_best_single"], summary["gain_over_student"]
    subject = f"{number_word(count)} weak delta{'s' * (count != 1)}"
    start = f"{of}{subject}, none above {_percent(summary['best_single']['score'])}, merge to "
    start += f"{_percent(summary['best_merge']['score'])}: "
    clear = {"above": "", "below": ", a loss", "level": ", which is not distinguishable from no gain"}[verdict(gain)]
    rest = f"{signed(gain['mean'])} points over the best single delta [95{_SPACE}% CI {_range(gain)}]{clear}, "
    rest += f"and {signed(over['mean'])} over the student [{_range(over)}]."
    sentence = start + rest
    return sentence[0].upper() + sentence[1:]


def _percent(score: float) -> str:
    return f"{score:.1f}{_SPACE}%"


def _range(difference: Mapping[str, Any]) -> str:
    return f"{signed(difference['low'])} to {signed(difference['high'])}"


def _names(domain: Mapping[str, Any]) -> int:
    return len({method["source"] for method in domain["methods"].values() if method["kind"] == "single"})


def _deltas(results: Mapping[str, Any]) -> int:
    return max(_names(domain) for domain in results["domains"].values())
