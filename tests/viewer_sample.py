"""A made-up run for the viewer's tests: two domains, one with a hostile name, two seeds, 450 items."""

from __future__ import annotations

from dataclasses import replace

import report_sample
from prefdelta.core.records import Item, Pair, Record, Sample, Span
from prefdelta.evaluation.results import Domain
from prefdelta.experiments.aggregation.summary import DomainOutcome, summarise
from prefdelta.recipe import Recipe
from prefdelta.report.page import render
from prefdelta.report.viewer import RunView
from prefdelta.report.viewer.aggregation import domain_model
from prefdelta.report.viewer.process import GeometryView, ProcessView, TrainingView, UnitDetails, UnitView
from prefdelta.report.viewer.view import Chart, Curve, DomainView, PairSet

SEEDS = (0, 1)
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\u2028\ud800__proto__"
)
ITEMS = 450  # three chunks


def record(task: str, place: int, right: bool, output: str = "", **more: object) -> Record:
    fields = {"truncated": False, "tokens": 3, "scorer": "exact-match", **more}
    text = output or f"<think>hm</think><information>{place} read</information><answer>{place}</answer>"
    return Record(task, f"{task}-{place}", float(right), fields.pop("parsed", str(place)), text, **fields)  # type: ignore[arg-type]


def outcome(domain: str) -> tuple[DomainOutcome, list[Item]]:
    """The student is right on every third item, the merge on every second, elm alone on the last one."""
    task = report_sample.TASKS[domain][0]
    made = report_sample.outcome(domain, SEEDS)
    rules = {"student": lambda n: n % 3 == 0, "average@3": lambda n: n % 2 == 0, "elm": lambda n: n == ITEMS - 1}
    rows = {}
    for key in made.records:
        right = rules.get(key[0], lambda n: n % 3 == 0)
        rows[key] = [record(task, n, right(n), answer_start=len("<think>hm</think>")) for n in range(ITEMS)]
        if key == ("average@3", 1):
            rows[key][5] = record(task, 5, True, HOSTILE + " needle <answer>" + HOSTILE + "</answer>", parsed=HOSTILE)
            rows[key][7] = record(task, 7, False, "cut", parsed=None, truncated=True)
    questions = [({"role": "user", "content": f"what is {n}?"},) for n in range(ITEMS)]
    asked = [Item(f"{task}-{n}", task, question, (str(n),)) for n, question in enumerate(questions)]
    asked[5] = replace(asked[5], messages=({"role": "user", "content": HOSTILE},), answers=(HOSTILE,))
    return replace(made, records=rows), asked


def shown(recipe: Recipe) -> RunView:
    """A made-up run of two domains, one with a hostile name, and two seeds."""
    outcomes = {"reasoning": outcome("reasoning"), HOSTILE[:60]: outcome("search")}
    results = summarise("sample " + HOSTILE[:90], SEEDS, {name: made for name, (made, _) in outcomes.items()})
    domains = [domain(name, results.domains[name], made, asked) for name, (made, asked) in outcomes.items()]
    columns = ["score %", "unparsed %", "cut off %", "tokens"]
    rows = [[1.0, 40.0, 2.0, 1.0, 9.0], [3.0, 50.0, 0.0, 0.0, 9.0], [6.0, 49.0, 0.0, 0.0, 9.0]]
    curve = Curve("average", "merge", 3.0, rows, (3.0, 6.0))
    notes = ["On the student's own answers the merge is 0.2 nats a token away.", HOSTILE]
    return RunView(
        name="sample " + HOSTILE[:90],
        description="Made-up numbers.",
        results=results,
        sentences=["It gains."],
        seeds=SEEDS,
        notes=[f"a note {HOSTILE}"],
        command="prefdelta run recipe.yaml -o runs/sample",
        settings=recipe,
        domains=domains,
        charts=[
            Chart(name, "scale λ", columns, ["score %"], [curve], logarithmic=True, notes=notes) for name in outcomes
        ],
        pairs=[pair_set("reasoning/ash"), pair_set(HOSTILE[:60])],
        process=made_by(),
        report=render(replace(report_sample.sample(SEEDS), results=results)),
    )


def domain(name: str, results: Domain, made: DomainOutcome, asked: list[Item]) -> DomainView:
    models = [domain_model(variant.name, results) for variant in made.variants]
    places = {model.name: place for place, model in enumerate(models)}
    best = places[results.summary.best_merge.variant]
    answers = [[made.records.get((model, seed), made.records.get((model, None))) for model in places] for seed in SEEDS]
    return DomainView(
        name=name,
        tasks=results.tasks,
        models=models,
        base=places["student"],
        rival=places[results.summary.best_single.variant],
        choices=[best, *(place for place, model in enumerate(models) if model.kind == "merge" and place != best)],
        items=[(item.task, item.id) for item in asked],
        questions=asked,
        answers=answers,
    )


PAIRS = 230  # two chunks


def pair_set(name: str) -> PairSet:
    """Pairs with growing answers; every third is held out, the last one too long; pair 3 is hostile."""

    def sample(place: int, text: str, tokens: int) -> Sample:
        read = Span("<information>read</information>", "environment")
        return Sample(str(place), (Span(text), read), "stop", tokens)

    def pair(place: int) -> Pair:
        text = HOSTILE if place == 3 else f"good {place}"
        prompt = ({"role": "user", "content": HOSTILE if place == 3 else f"asked {place}?"},)
        return Pair(f"pair-{place}", "t", prompt, sample(place, text, place), sample(place, f"bad {place}", 7))

    fates = ["held out" if place % 3 == 0 else "trained on" for place in range(PAIRS - 1)] + ["length_ratio"]
    margins = [float(place - 100) / 8 if fate == "held out" else None for place, fate in enumerate(fates)]
    pairs = [(fate, pair(place)) for place, fate in enumerate(fates)]
    return PairSet(name, {"asked": 300, "identical": 70, HOSTILE[:60]: 1}, pairs, {"ash": margins})


def made_by() -> ProcessView:
    """Units with a hostile name, two trainings, and the geometry of two deltas that pull against each other."""
    evil = HOSTILE[:60]
    units = [
        UnitView("reasoning/prompts", "prompts", 1.0, 2000, []),
        UnitView("reasoning/pairs/ash", "pairs", 2.0, 3000, ["reasoning/prompts"]),
        UnitView(
            f"reasoning/adapters/0/{evil}", "adapters", None, 5_000_000, ["reasoning/pairs/ash", "reasoning/prompts"]
        ),
    ]
    trainings = [
        TrainingView(f"reasoning/adapters/0/{name}", [1, 2, 3], {"loss": [0.693, None, low]})
        for name, low in (("ash", 0.3), (evil, 0.2))
    ]
    pair = {"first": 0, "second": 1, "cosine": -0.5, "modules": {"layers.0.q": -0.5, "layers.1.q": None}}
    details = {unit.name: UnitDetails({"source": HOSTILE}, [(evil, unit.size, "a1b2")]) for unit in units}
    return ProcessView(units, trainings, [GeometryView("reasoning", ["ash", evil], [1.0, 2.0], [pair])], details)
