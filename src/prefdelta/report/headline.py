"""Headlines of a report: the result of a run or a domain, and what a control shows, in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefdelta.evaluation.doubts import doubts
from prefdelta.evaluation.results import AggregationResults, Domain, DomainSummary, Interval, signed

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_FEW_CHANGED = 5.0  # percent of the answers

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


def question(results: AggregationResults) -> str:
    """What a run asked, for a reader who has never heard of deltas."""
    domains = results.domains
    measured = []
    for name, domain in domains.items():
        of = f"{name}, " if len(domains) > 1 else ""
        items = sum(task.n for task in domain.methods[domain.summary.best_merge.variant].tasks.values())
        measured.append(f"{of}{items:,} test items of {', '.join(domain.tasks)}")
    return (
        "The question: can a student learn from which of two weaker models gave an answer, while nobody says what is "
        "right? Each pair of such models teaches it one small adapter, a delta. Is an adapter merged from all of them "
        f"better than the best of them? Measured on {'; '.join(measured)}."
    )


def headlines(results: AggregationResults) -> list[str]:
    """The result of a run, one sentence a domain: a mean over domains would be a score that no model has."""
    if len(results.domains) == 1:
        return [domain_headline(domain) for domain in results.domains.values()]
    return [domain_headline(domain, name) for name, domain in results.domains.items()]


def domain_headline(domain: Domain, name: str = "") -> str:
    """The result of a domain in one sentence, which begins with its name if there is one."""
    count = len({method.source for method in domain.methods.values() if method.kind == "single"})
    of = f"in {name}, " if name else ""
    return warned(domain_doubts(domain), _headline(domain.summary, count=count, of=of))


def cautions(results: AggregationResults) -> list[str]:
    """What makes a result less than it looks, a sentence each.

    A merge that barely changes the student, and a weak model that is no weaker than the student.
    """
    found = []
    for name, domain in results.domains.items():
        chosen = domain.methods[domain.summary.best_merge.variant]
        if chosen.average.changed is not None and chosen.average.changed < _FEW_CHANGED:
            found.append(
                f"In {name}, the merge gives another answer than the student to only "
                f"{_percent(chosen.average.changed)} of the items, so it barely changes the student: train for longer, "
                "raise learning_rate, or let λ reach further."
            )
        (student,) = [method for method in domain.methods.values() if method.kind == "student"]
        better = [
            f"{method.source} ({_percent(method.average.score)})"
            for method in domain.methods.values()
            if method.kind == "weak" and method.average.score > student.average.score
        ]
        if better:
            found.append(
                f"In {name}, {' and '.join(better)} {'do' if len(better) > 1 else 'does'} better than the student "
                f"({_percent(student.average.score)}), so the gain may be what a stronger model taught, not weak ones: "
                "compare with fine-tuning on its answers (controls: [sft])."
            )
    return found


def warned(found: Sequence[str], sentence: str) -> str:
    """A headline with what speaks against it said first."""
    return f"Do not trust these numbers yet: {'; '.join(found)}. {sentence}" if found else sentence


def control_reading(control: str, differences: Mapping[float, Interval]) -> str:
    """What a control shows, in plain words.

    Args:
        control: its name.
        differences: of its merge to the student, by scale λ. A gain at any of them counts as a gain; otherwise λ = 1,
            or the only scale there is, decides.
    """
    if control not in _LESSONS:
        return ""
    verdicts = {scale: difference.verdict for scale, difference in differences.items()}
    if "above" in verdicts.values():
        return _LESSONS[control]["above"]
    return _LESSONS[control][verdicts.get(1, next(iter(verdicts.values())))]


def domain_doubts(domain: Domain) -> list[str]:
    """What speaks against the three models that the headline is about."""
    shown = [name for name, method in domain.methods.items() if method.kind == "student"]
    shown += [domain.summary.best_single.variant, domain.summary.best_merge.variant]
    return doubts({name: domain.methods[name].tasks for name in shown})


def _headline(summary: DomainSummary, *, count: int, of: str) -> str:
    gain, over = summary.gain_over_best_single, summary.gain_over_student
    subject = f"{number_word(count)} weak delta{'s' * (count != 1)}"
    start = f"{of}{subject}, none above {_percent(summary.best_single.score)}, merge to "
    start += f"{_percent(summary.best_merge.score)}: "
    clear = {"above": "", "below": ", a loss", "level": ", which is not distinguishable from no gain"}[gain.verdict]
    rest = f"{signed(gain.mean)} points over the best single delta [95{_SPACE}% CI {_range(gain)}]{clear}, "
    rest += f"and {signed(over.mean)} over the student [{_range(over)}]."
    sentence = start + rest
    return sentence[0].upper() + sentence[1:]


def _percent(score: float) -> str:
    return f"{score:.1f}{_SPACE}%"


def _range(difference: Interval) -> str:
    return f"{signed(difference.low)} to {signed(difference.high)}"
