"""The units of work of one domain: its prompts, responses, pairs, adapters, merges, validation and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages, watching
from prefdelta.pipeline.estimate import lora_bytes
from prefdelta.pipeline.identity import (
    benchmark_externals,
    file_externals,
    portable,
    scoring_externals,
    seed_from,
    source_config,
    source_externals,
    source_label,
)
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import AnySource, Baseline, Control, Domain, Imported, ModelRef, Recipe, Scoring, Training
from prefdelta.recipe.watching import Watch
from prefdelta.records import Pair
from prefdelta.scoring.scores import SCORE_ROWS
from prefdelta.store import Artifact

STUDENT = "student"
CONTROL_MERGE = "average"
"""Controls are merged by plain averaging: they ask what the labels teach, not which merge is best."""


_RESUMABLE = ("responses", "scores", "adapters", "validation", "test", "watch")


class DomainPlan:
    """The units of one domain, and the names of what it evaluates.

    Args:
        name: the domain's name.
        domain: what the recipe says of it.
        recipe: the whole recipe.
        student: the student as a Hugging Face model; its path lies in the run directory if it had to be converted.
        cache: where reference log-probabilities are kept.
    """

    def __init__(self, name: str, domain: Domain, recipe: Recipe, student: ModelRef, cache: Path) -> None:
        self._recipe = recipe
        self._student = student
        self._cache = cache
        self.name = name
        self.domain = domain
        self.deltas = [delta.name for delta in domain.deltas]
        self.methods = list(recipe.merge.methods)
        self.sources = _sources(name, domain)
        self._base = {STUDENT: STUDENT} if student is not recipe.student else {}

    def control_variants(self, control: Control) -> list[str]:
        """The adapters of one control: one per delta, and their average."""
        return [*(f"{control}.{delta}" for delta in self.deltas), f"{control}.{CONTROL_MERGE}"]

    def controls(self, seed: int) -> tuple[Control, ...]:
        """The controls that are run with this training seed."""
        seeds = self._recipe.seeds if self._recipe.control_seeds is None else self._recipe.control_seeds
        return self._recipe.controls if seed in seeds else ()

    def units(self) -> Iterator[Unit]:
        """All units of the domain, in order."""
        yield self._prompts()
        for label, source in self.sources.items():
            yield self._responses(label, source)
        if self.domain.pairing.needs_scores and self.domain.scoring is not None:
            for label in self.sources:
                yield self._scores(label, self.domain.scoring)
        for delta in self.deltas:
            yield self._pairs(delta)
        for seed in self._recipe.seeds:
            for delta in self.deltas:
                yield self._adapter(seed, delta, None)
                yield self._validation(seed, delta, f"adapters/{seed}/{delta}")
            for method in self.methods:
                yield self._merge(seed, method, method, self.deltas)
                yield self._validation(seed, method, f"merges/{seed}/{method}")
            for baseline in self._recipe.baselines:
                yield from self._baseline(seed, baseline)
                yield self._validation(seed, baseline, self._baseline_path(seed, baseline))
            for control in self.controls(seed):
                for delta in self.deltas:
                    yield self._adapter(seed, delta, control)
                *singles, merged = self.control_variants(control)
                yield self._merge(seed, merged, CONTROL_MERGE, singles)
                yield self._validation(seed, merged, f"merges/{seed}/{merged}")
        yield self._selection()
        if self._recipe.evaluate_weak:
            for label, source in self.sources.items():
                if isinstance(source, ModelRef):
                    yield self._weak_test(label, source)
        for seed in self._recipe.seeds:
            yield self._test(seed, STUDENT, None, tuned=False)
            for delta in self.deltas:
                yield self._test(seed, delta, f"adapters/{seed}/{delta}", tuned=True)
            for method in self.methods:
                yield self._test(seed, method, f"merges/{seed}/{method}", tuned=True)
            for baseline in self._recipe.baselines:
                yield self._test(seed, baseline, self._baseline_path(seed, baseline), tuned=True)
            for control in self.controls(seed):
                *singles, merged = self.control_variants(control)
                for single in singles:
                    yield self._test(seed, single, f"adapters/{seed}/{single}", tuned=False)
                yield self._test(seed, merged, f"merges/{seed}/{merged}", tuned=True)
            if self._recipe.watch is not None:
                yield self._watch(seed, self._recipe.watch)
        yield self._geometry()

    def _prompts(self) -> Unit:
        prompts, search = self.domain.prompts, self.domain.search
        return self._unit(
            "prompts",
            config={"prompts": prompts, "protocol": search.protocol if search else None},
            externals=file_externals(prompts.source),
            make=lambda work, inputs, bench: stages.write_prompts(work, prompts, search),
        )

    def _responses(self, label: str, source: AnySource) -> Unit:
        domain = self.domain
        sampling, count = domain.sampling, domain.prompts.count * domain.sampling.n

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            prompts = inputs["prompts"].path / stages.PROMPTS
            stages.write_responses(work, prompts, bench, source, sampling, domain.search)

        imported = isinstance(source, Imported)
        drawn = {} if imported else {"sampling": sampling, "search": domain.search}
        return self._unit(
            f"responses/{label}",
            config={"source": source_config(source), **drawn},
            inputs={"prompts": self._path("prompts")},
            externals={**source_externals(source), **({} if imported else self._corpus())},
            make=make,
            work=Work(samples=0 if imported else count, disk=count * 2048),
        )

    def _scores(self, label: str, scoring: Scoring) -> Unit:
        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            prompts, answers = inputs["prompts"].path / stages.PROMPTS, inputs["responses"].path / stages.RESPONSES
            stages.write_scores(work, prompts, answers, bench, scoring, label)

        count = self.domain.prompts.count * self.domain.sampling.n
        return self._unit(
            f"scores/{label}",
            config={"scoring": scoring, "label": label},
            inputs={"prompts": self._path("prompts"), "responses": self._path(f"responses/{label}")},
            externals=scoring_externals(scoring, label),
            make=make,
            work=Work(scores=count, disk=count * 64),
        )

    def _pairs(self, name: str) -> Unit:
        domain, filters = self.domain, self.domain.filters
        delta = next(delta for delta in domain.deltas if delta.name == name)
        weak, weaker = (label for label, _ in _labelled(delta.weak, delta.weaker))
        inputs = {
            "prompts": self._path("prompts"),
            "weak": self._path(f"responses/{weak}"),
            "weaker": self._path(f"responses/{weaker}"),
        }
        if domain.pairing.needs_scores:
            inputs |= {"weak scores": self._path(f"scores/{weak}"), "weaker scores": self._path(f"scores/{weaker}")}
        about = {
            "delta": {"name": name, "weak": source_config(delta.weak), "weaker": source_config(delta.weaker)},
            "sampling": domain.sampling,
            "scoring": domain.scoring,
            "pairing": domain.pairing,
            "filters": filters,
        }

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            scores = [
                inputs[side].path / SCORE_ROWS if side in inputs else None for side in ("weak scores", "weaker scores")
            ]
            files = stages.PairFiles(
                inputs["prompts"].path / stages.PROMPTS,
                inputs["weak"].path / stages.RESPONSES,
                inputs["weaker"].path / stages.RESPONSES,
                *scores,
            )
            stages.write_pairs(
                work,
                files,
                domain.pairing,
                filters,
                portable(about),
                questions=stages.as_asked(domain.prompts, domain.search),
                benchmarks=domain.benchmarks,
                student=self._student,
            )

        compared = benchmark_externals(domain.benchmarks) if filters.decontaminate else {}
        counted = self._student_weights() if filters.identical_within else {}
        return self._unit(
            f"pairs/{name}",
            config={**about, "benchmarks": domain.benchmarks if filters.decontaminate else ()},
            inputs={**inputs, **(self._base if filters.identical_within else {})},
            externals={**compared, **counted},
            make=make,
            work=Work(disk=self._pair_count * 4096),
        )

    @property
    def _pair_count(self) -> int:
        """The most pairs of one delta."""
        several = self.domain.pairing.rule in ("order", "score")
        return self.domain.prompts.count * (self.domain.sampling.n if several else 1)

    def _adapter(self, seed: int, delta: str, control: Control | None) -> Unit:
        training = self.domain.training
        if control == "sft":
            training = training.with_objective("sft")
        order = seed_from(seed, delta)
        return self._trained(
            seed,
            delta if control is None else f"{control}.{delta}",
            drawn=delta,  # a control starts from the same A as its delta
            training=training,
            order=order,
            inputs={"pairs": self._path(f"pairs/{delta}")},
            config={"control": control},
            examples=lambda inputs: stages.pairs_for(control, inputs["pairs"].path / stages.PAIRS, order),
        )

    def _baseline(self, seed: int, baseline: Baseline) -> Iterator[Unit]:
        """Joint: one adapter. Sequential: the first delta's adapter, trained further on one pair set after another."""
        if baseline == "joint":
            yield self._trained(
                seed,
                baseline,
                drawn=baseline,
                training=self.domain.training,
                order=seed_from(seed, baseline),
                inputs={f"pairs of {delta}": self._path(f"pairs/{delta}") for delta in self.deltas},
                config={"joint": self.deltas},
                examples=lambda inputs: stages.all_pairs(inputs, self.deltas),
            )
            return
        last = self.deltas[0]
        for delta in self.deltas[1:]:
            yield self._trained(
                seed,
                f"{baseline}.{delta}",
                drawn=baseline,  # not used: A is that of the adapter
                training=self.domain.training,
                order=seed_from(seed, baseline, delta),
                inputs={
                    "pairs": self._path(f"pairs/{delta}"),
                    "adapter": self._path(f"adapters/{seed}/{last}"),
                },
                config={"further": True},
                examples=lambda inputs: stages.pairs_for(None, inputs["pairs"].path / stages.PAIRS, 0),
            )
            last = f"{baseline}.{delta}"

    def _baseline_path(self, seed: int, baseline: Baseline) -> str:
        """Where the adapter of a baseline lies."""
        if baseline == "joint":
            return f"adapters/{seed}/{baseline}"
        *earlier, last = self.deltas
        return f"adapters/{seed}/{f'{baseline}.{last}' if earlier else last}"

    def _trained(
        self,
        seed: int,
        name: str,
        *,
        drawn: str,
        training: Training,
        order: int,
        inputs: Mapping[str, str],
        config: Mapping[str, Any],
        examples: Callable[[Mapping[str, Artifact]], Sequence[Pair]],
    ) -> Unit:
        init = seed_from(seed, "init" if training.lora.shared_init else drawn)
        sets = sum(label.startswith("pairs") for label in inputs)
        steps = -(-int(sets * self._pair_count * training.epochs) // training.batch_size)
        return self._unit(
            f"adapters/{seed}/{name}",
            config={
                "training": training.settled,
                "seeds": {"order": order, "init": init},
                "student": self._recipe.student,
                **config,
            },
            inputs={**inputs, **self._base},
            externals=self._student_weights(),
            make=lambda work, inputs, bench: stages.train(
                work,
                examples(inputs),
                bench,
                self._student,
                training,
                seed=order,
                init_seed=init,
                adapter=inputs["adapter"].path if "adapter" in inputs else None,
                cache=self._cache,
            ),
            work=Work(steps=steps, disk=lora_bytes(self._recipe.student, training.lora)),
        )

    def _merge(self, seed: int, name: str, method: str, adapters: list[str]) -> Unit:
        inputs = {adapter: self._path(f"adapters/{seed}/{adapter}") for adapter in adapters}
        # GAM aligns to the delta that does best on validation (PDA, footnote 2).
        judged = {
            f"validation of {delta}": self._path(f"validation/{seed}/{delta}")
            for delta in adapters
            if method.startswith("gam")
        }
        return self._unit(
            f"merges/{seed}/{name}",
            config={"method": method, "adapters": adapters},
            inputs={**inputs, **judged},
            make=lambda work, inputs, bench: stages.merge_adapters(work, inputs, method, adapters),
            work=Work(
                disk=(len(adapters) if method == "average" else 1)
                * lora_bytes(self._recipe.student, self.domain.training.lora)
            ),
        )

    def _validation(self, seed: int, variant: str, adapter: str) -> Unit:
        scales = self._recipe.merge.scales
        count = sum(benchmark.validation for benchmark in self.domain.benchmarks)
        return self._evaluation(
            f"validation/{seed}/{variant}",
            config={"split": "validation", "scales": scales, "seed": seed},
            inputs={"adapter": self._path(adapter)},
            make=lambda work, inputs, bench: stages.validate(
                work, _adapter(inputs), bench, self._student, self.domain, scales, seed
            ),
            samples=count * len(scales),
        )

    def _selection(self) -> Unit:
        merged_controls = [self.control_variants(control)[-1] for control in self._recipe.controls]
        groups: dict[str, list[str]] = {
            "merges": self.methods,
            "singles": self.deltas,
            "baselines": list(self._recipe.baselines),
            "controls": merged_controls,
        }
        variants = {
            seed: [
                *self.deltas,
                *self.methods,
                *self._recipe.baselines,
                *(merged_controls if self.controls(seed) else []),
            ]
            for seed in self._recipe.seeds
        }
        return self._unit(
            "selection",
            config={"groups": groups},
            inputs={
                f"{seed}/{variant}": self._path(f"validation/{seed}/{variant}")
                for seed, names in variants.items()
                for variant in names
            },
            make=lambda work, inputs, bench: stages.select(work, inputs, groups),
        )

    def _test(self, seed: int, variant: str, adapter: str | None, *, tuned: bool) -> Unit:
        inputs = {"adapter": self._path(adapter)} if adapter else {}
        selection = {"selection": self._path("selection")} if tuned else {}
        scales = 2 if tuned else 1
        return self._evaluation(
            f"test/{seed}/{variant}",
            config={"split": "test", "variant": variant, "tuned": tuned, "seed": seed},
            inputs={**inputs, **selection},
            make=lambda work, inputs, bench: stages.test(
                work,
                _adapter(inputs) if adapter else None,
                bench,
                self._student,
                self.domain,
                stages.tuned_scales(inputs["selection"], variant) if tuned else [1.0],
                seed,
            ),
            samples=scales * sum(benchmark.test for benchmark in self.domain.benchmarks),
        )

    def _weak_test(self, label: str, source: ModelRef) -> Unit:
        return self._evaluation(
            f"test/weak/{label}",
            config={"split": "test", "model": source},
            inputs={},
            externals={"weights": partial(fingerprint, source)},
            make=lambda work, inputs, bench: stages.test(work, None, bench, source, self.domain, [1.0], 0),
            samples=sum(benchmark.test for benchmark in self.domain.benchmarks),
        )

    def _watch(self, seed: int, watch: Watch) -> Unit:
        adapters = {delta: self._path(f"adapters/{seed}/{delta}") for delta in self.deltas}
        judged = {f"validation of {delta}": self._path(f"validation/{seed}/{delta}") for delta in self.deltas}
        variants = 2 + (len(self.deltas) if len(self.deltas) > 1 else 0)
        samples = variants * sum(benchmark.test for benchmark in watch.benchmarks)
        return self._unit(
            f"watch/{seed}",
            config={"watch": watch, "deltas": self.deltas, "seed": seed},
            inputs={**adapters, **judged, "selection": self._path("selection"), **self._base},
            externals={**self._student_weights(), **benchmark_externals(watch.benchmarks)},
            make=lambda work, inputs, bench: watching.watch(
                work, inputs, bench, self._student, watch, self.deltas, seed
            ),
            work=Work(samples=samples, disk=samples * 1024),
        )

    def _geometry(self) -> Unit:
        first = self._recipe.seeds[0]
        return self._unit(
            "geometry",
            config={"adapters": self.deltas},
            inputs={delta: self._path(f"adapters/{first}/{delta}") for delta in self.deltas},
            make=lambda work, inputs, bench: stages.write_geometry(work, [inputs[delta].path for delta in self.deltas]),
        )

    def _evaluation(
        self,
        name: str,
        *,
        config: dict[str, Any],
        inputs: dict[str, str],
        make: Callable[..., None],
        samples: int,
        externals: Mapping[str, Callable[[], str]] | None = None,
    ) -> Unit:
        domain = self.domain
        files = benchmark_externals(domain.benchmarks)
        own = self._student_weights() if externals is None else externals
        return self._unit(
            name,
            config={
                **config,
                "benchmarks": domain.benchmarks,
                "sampling": domain.evaluation_sampling or domain.sampling,
                "search": domain.search,
            },
            inputs={**inputs, **(self._base if externals is None else {})},
            externals={**own, **files, **self._corpus()},
            make=make,
            work=Work(samples=samples, disk=samples * 1024),
        )

    def _unit(
        self,
        name: str,
        *,
        config: Any,
        make: Callable[..., None],
        inputs: Mapping[str, str] | None = None,
        externals: Mapping[str, Callable[[], str]] | None = None,
        work: Work | None = None,
    ) -> Unit:
        return Unit(
            name=self._path(name),
            stage=name.split("/")[0],
            config=portable(config),
            inputs=inputs or {},
            externals=externals or {},
            make=make,
            work=work or Work(),
            resumable=name.split("/")[0] in _RESUMABLE,
        )

    def _corpus(self) -> dict[str, Callable[[], str]]:
        return file_externals(self.domain.search.corpus, "corpus") if self.domain.search else {}

    def _student_weights(self) -> dict[str, Callable[[], str]]:
        return {} if self._base else {"student": partial(fingerprint, self._recipe.student)}

    def _path(self, name: str) -> str:
        return f"{self.name}/{name}"


def _sources(name: str, domain: Domain) -> dict[str, AnySource]:
    sources: dict[str, AnySource] = {}
    for delta in domain.deltas:
        for label, source in _labelled(delta.weak, delta.weaker):
            if sources.setdefault(label, source) != source:
                raise PrefdeltaError(
                    f"domain {name!r} has two different models called {label!r}; rename one folder so that they differ."
                )
    return sources


def _adapter(inputs: Mapping[str, Artifact]) -> Path:
    """The adapter folder in an artifact: a merge keeps it in a folder of its own, a training is one."""
    folder = inputs["adapter"].path
    return folder / "adapter" if (folder / "adapter").is_dir() else folder


def _labelled(*sources: AnySource) -> list[tuple[str, AnySource]]:
    return [(source_label(source), source) for source in sources]
