"""What a set of WRPO triples looks like: scores and lengths of its three answers, and a card for its reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from prefdelta.core.files import readable_json
from prefdelta.core.names import markdown
from prefdelta.core.records import Triple
from prefdelta.pairs.candidates import Candidate, Pool, best, worst
from prefdelta.pairs.card import table
from prefdelta.pairs.triples import TripleCounts

ROLES = ("source", "target", "rejected")  # of a triple's responses, in their order


def triple_summary(triples: Sequence[Triple], sources: Mapping[str, Candidate], target: Pool) -> dict[str, Any]:
    """Means over the triples, by role: score, tokens written, and the share that the model ended itself.

    WRPO's reward is a sum over tokens: where source answers are much longer than the student's own, they weigh more
    than α says.

    Args:
        triples: at least one.
        sources: item id -> the chosen source answer.
        target: the scored answers of the student itself.
    """
    scores: dict[str, Callable[[Triple], float]] = {
        "source": lambda row: sources[row.id].score,
        "target": lambda row: best(target[row.id]).score,
        "rejected": lambda row: worst(target[row.id]).score,
    }
    return {
        "best_source": dict(sorted(Counter(sources[row.id].source for row in triples).items())),
        "roles": {
            role: {
                "score": fmean(scores[role](row) for row in triples),
                "tokens": fmean(row.responses[place].tokens for row in triples),
                "ended": fmean(row.responses[place].finish == "stop" for row in triples),
            }
            for place, role in enumerate(ROLES)
        },
    }


def triple_card(counts: TripleCounts, summary: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The card, in Markdown.

    Args:
        counts: what became of all items.
        summary: see :func:`triple_summary`.
        about: where the answers come from: models, sampling, scoring, as plain values.
    """
    roles = summary["roles"]
    lines = [
        ("score, mean", *(f"{roles[role]['score']:.3f}" for role in ROLES)),
        ("tokens written, mean", *(f"{roles[role]['tokens']:.1f}" for role in ROLES)),
        ("ended by the model, %", *(f"{100 * roles[role]['ended']:.1f}" for role in ROLES)),
    ]
    return (
        "\n\n".join(
            [
                "# Triples",
                "`triples.jsonl` has one triple a line: to `prompt`, `source` is the best answer of all source models; "
                "`target` and `rejected` are the best and the worst of the student's own answers. Best and worst go by "
                "the scores, and no person looked at them.",
                "## Origin",
                f"```json\n{readable_json(about)}```",
                "## Counts",
                table(
                    ("", "items"),
                    [
                        ("asked", counts.items),
                        ("dropped: not answered by both sides", counts.missing),
                        ("dropped: own answers all score the same", counts.tied),
                        ("dropped: own best and worst answers are identical", counts.identical),
                        ("dropped: own answers closer in score than asked", counts.small_gap),
                        ("dropped: source behind the student", counts.source_behind),
                        ("**triples**", counts.triples),
                        ("of these, source scores above the student's best", counts.source_ahead),
                    ],
                ),
                table(
                    ("best source", "triples"),
                    [(markdown(name), count) for name, count in summary["best_source"].items()],
                ),
                "## Answers",
                table(("", *ROLES), lines),
            ]
        )
        + "\n"
    )
