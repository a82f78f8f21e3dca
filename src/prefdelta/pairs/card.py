"""A data card: what a file of preference pairs is and how it came about, for a reader who has only the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from prefdelta.core.files import readable_json
from prefdelta.core.names import markdown, one_line
from prefdelta.core.records import Pair, Sample
from prefdelta.pairs.lengths import LengthBias
from prefdelta.pairs.pairing import PairCounts
from prefdelta.recipe import Pairing

BY_ORDER = "The weak model wrote `chosen` and the weaker one `rejected`; no judge looked at them"
_PREFERRED = {
    "order": BY_ORDER,
    "score": "Of the answers of two models, `chosen` has the higher score",
    "best-worst": "Of all answers, `chosen` has the highest score and `rejected` the lowest",
    "same-source": "One and the same model wrote both; `chosen` has its highest score and `rejected` its lowest",
}
_REASONS = {
    "missing": "not answered as the rule needs",
    "thought": "an answer holds a thought, though thinking is off",
    "identical": "identical answers",
    "tied": "equal scores",
    "small_gap": "scores too close",
    "large_gap": "scores too far apart",
    "format": "chosen answer fails the format filter",
    "identical_within": "identical after truncation",
    "length_ratio": "one answer is too much longer than the other",
    "duplicate": "question asked before",
    "length_balance": "to balance the lengths",
    "held_out": "held out of training, in `held_out.jsonl`",
}


def preferred_by(pairing: Pairing) -> str:
    """In words, who is preferred and why."""
    rule = pairing.rule.name
    agreed = "; their scores agree with that" if rule == "order" and pairing.needs_scores else ""
    return _PREFERRED.get(rule, f"the answer that the rule {one_line(rule)} prefers") + agreed


def dropped_reasons(dropped: Mapping[str, int]) -> list[str]:
    """How many pairs or items were dropped for each reason, as ``3 × identical answers``."""
    return [f"{count} × {_told(reason)}" for reason, count in dropped.items() if count]


def data_card(pairs: Sequence[Pair], counts: PairCounts, about: Mapping[str, Any], *, preferred: str = BY_ORDER) -> str:
    """The card, in Markdown.

    Args:
        pairs: the pairs themselves, at least one.
        counts: what became of all items.
        about: where the pairs come from: models, sampling, filters, as plain values.
        preferred: in words, without a full stop, who is preferred and why.
    """
    parts = [
        "# Preference pairs",
        "`pairs.jsonl` has one pair a line: to `prompt`, the answer `chosen` is preferred over `rejected`. "
        f"{preferred}. Either may be right or wrong. Spans whose `source` is `environment` were shown to the model, "
        "not written by it.",
        "## Origin",
        f"```json\n{readable_json(about)}```",
        "## Counts",
        table(
            ("", "items"),
            [
                ("asked", counts.items),
                *((f"dropped: {_told(reason)}", count) for reason, count in counts.dropped.items()),
                ("**pairs**", counts.pairs),
            ],
        ),
        table(
            ("task", "pairs"),
            [(markdown(task), count) for task, count in sorted(Counter(pair.task for pair in pairs).items())],
        ),
        "## Answers",
        table(
            ("", "chosen", "rejected"),
            [
                _line("words written, mean", pairs, lambda samples: mean(map(_words, samples))),
                _line("words written, median", pairs, lambda samples: median(map(_words, samples))),
                _line("tokens written, mean", pairs, lambda samples: mean(sample.tokens for sample in samples)),
                _line("searches, mean", pairs, lambda samples: mean(map(_searches, samples))),
                _line("ended by the model, %", pairs, lambda samples: 100 * mean(map(_stopped, samples))),
            ],
        ),
        "Tokens are 0 where answers were imported without them.",
        "## Length bias",
        "Far from a balance, a student may learn length instead of anything better. Lengths are characters that the "
        "model itself wrote; the log ratio is the mean of log(chosen / rejected).",
        table(
            ("", "chosen, mean", "rejected, mean", "chosen longer, %", "rejected longer, %", "log ratio"),
            [_bias("as paired", counts.lengths_before), _bias("after the filters", counts.lengths_after)],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _told(reason: str) -> str:
    name, _, detail = reason.partition(": ")
    if name == "contaminated":
        return f"question is in the evaluation set {markdown(detail)}"
    return _REASONS.get(name, markdown(name))


def _bias(label: str, bias: LengthBias) -> tuple[str, ...]:
    shares = (f"{100 * share:.1f}" for share in (bias.chosen_longer, bias.rejected_longer))
    return label, f"{bias.chosen:.1f}", f"{bias.rejected:.1f}", *shares, f"{bias.log_ratio:+.3f}"


def _line(label: str, pairs: Sequence[Pair], value: Callable[[Sequence[Sample]], float]) -> tuple[str, str, str]:
    sides = ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    chosen, rejected = (f"{value(side):.1f}" for side in sides)
    return label, chosen, rejected


def _words(sample: Sample) -> int:
    return len(sample.own_text.split())


def _searches(sample: Sample) -> int:
    return sum(span.source == "environment" for span in sample.spans)


def _stopped(sample: Sample) -> bool:
    return sample.finish == "stop"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
