"""A judged comparison, told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_COUNTS = {
    "questions": "questions",
    "judged": "judged",
    "not_judged": "without a verdict in both orders",
    "not_answered": "not answered by both models",
    "empty": "empty answers of the model",
    "empty_opponent": "empty answers of the opponent",
    "malformed": "rows that cannot be read",
    "unread": "replies without a verdict",
    "cut_off": "replies cut off",
}
_GRADED = {"questions": "turns", "not_judged": "without a rating", "not_answered": "not answered"}


def print_judged(summary: Mapping[str, Any], folder: Path, console: Console) -> None:
    """What became of every question, and the scores."""
    counts = Table("what became of the questions", "count")
    words = {**_COUNTS, **(_GRADED if summary["benchmark"] == "mtbench" else {})}
    for name, count in summary["counts"].items():
        if count or name in ("questions", "judged"):
            counts.add_row(words.get(name, name), f"{count:,}")
    console.print(counts)
    console.print(sentence(summary), highlight=False, soft_wrap=True)
    console.print(f"judged: {folder}", highlight=False)


def sentence(summary: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    scores, model, judge = summary["scores"], summary["model"], summary["judge"]
    if "rating" in scores:
        interval = f" [95 % CI {scores['low']:.2f} to {scores['high']:.2f}]" if "low" in scores else ""
        turns = ", ".join(
            f"turn {turn}: {scores[f'turn_{turn}']:.2f}" for turn in (1, 2) if scores[f"turn_{turn}"] is not None
        )
        return f"{judge} grades {model} {scores['rating']:.2f} of 10{interval} ({turns})."
    if "win_rate" not in scores:
        return f"Too few answers of {model} were judged to give a score."
    start = (
        f"{judge} prefers {model} to {summary['opponent']} in {_range(scores, 'win_rate')} of {scores['items']:,} "
        "questions, both orders of showing averaged"
    )
    controlled = scores.get("length_controlled")
    if controlled:
        start += f"; at equal length in {controlled['win_rate']:.1f} % ({controlled['variant']})"
    if "style_controlled" in scores:
        start += f"; with clear verdicts counted three times {_range(scores['weighted'], 'score')}"
        start += f", at equal style {_range(scores['style_controlled'], 'score')}"
    return start + "."


def _range(scores: Mapping[str, Any], name: str) -> str:
    return f"{scores[name]:.1f} % [95 % CI {scores['low']:.1f} to {scores['high']:.1f}]"
