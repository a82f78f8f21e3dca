"""A data card: what a file of preference pairs is and how it came about, for a reader who has only the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from prefdelta.pairs.pairing import PairCounts
from prefdelta.records import Pair, Sample, to_json


def data_card(pairs: Sequence[Pair], counts: PairCounts, about: Mapping[str, Any]) -> str:
    """The card, in Markdown.

    Args:
        pairs: the pairs themselves, at least one.
        counts: what became of all items.
        about: where the pairs come from: models, sampling, filters, as plain values.
    """
    longer = mean(_words(pair.chosen) > _words(pair.rejected) for pair in pairs)
    parts = [
        "# Preference pairs",
        "`pairs.jsonl` has one pair a line: to `prompt`, the answer `chosen` is preferred over `rejected`. The weak "
        "model wrote `chosen` and the weaker one `rejected`; no judge looked at them, and either may be right or "
        "wrong. Spans whose `source` is `environment` were shown to the model, not written by it.",
        "## Origin",
        f"```json\n{json.dumps(json.loads(to_json(about)), indent=2, sort_keys=True, ensure_ascii=False)}\n```",
        "## Counts",
        _table(
            ("", "items"),
            [
                ("asked", counts.items),
                ("dropped: not answered by both", counts.missing),
                ("dropped: identical answers", counts.identical),
                ("dropped: chosen answer fails the format filter", counts.format),
                ("**pairs**", counts.pairs),
            ],
        ),
        _table(("task", "pairs"), sorted(_per_task(pairs).items())),
        "## Answers",
        _table(
            ("", "chosen", "rejected"),
            [
                _line("words written, mean", pairs, lambda samples: mean(map(_words, samples))),
                _line("words written, median", pairs, lambda samples: median(map(_words, samples))),
                _line("tokens written, mean", pairs, lambda samples: mean(sample.tokens for sample in samples)),
                _line("searches, mean", pairs, lambda samples: mean(map(_searches, samples))),
                _line("ended by the model, %", pairs, lambda samples: 100 * mean(map(_stopped, samples))),
            ],
        ),
        f"In {100 * longer:.1f} % of the pairs the chosen answer has more words than the rejected one. Far from 50 % a "
        "student may learn length instead of anything better. Tokens are 0 where answers were imported without them.",
    ]
    return "\n\n".join(parts) + "\n"


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


def _per_task(pairs: Sequence[Pair]) -> dict[str, int]:
    found: dict[str, int] = {}
    for pair in pairs:
        found[pair.task] = found.get(pair.task, 0) + 1
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
