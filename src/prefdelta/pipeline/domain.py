"""The units of work of one domain: its prompts, responses, pairs, adapters, merges, validation and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefdelta.errors import PrefdeltaError
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages
from prefdelta.pipeline.estimate import lora_bytes
from prefdelta.pipeline.identity import path_digest, portable, seed_from, source_label
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import Control, Domain, Imported, ModelRef, Recipe
from prefdelta.store import Artifact

STUDENT = "student"
CONTROL_MERGE = "average"
"""Controls are merged by plain averaging: they ask what the labels teach, not which merge is best."""


_RESUMABLE = ("responses", "adapters", "validation", "test")


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
        for delta in self.deltas:
            yield self._pairs(delta)
        for seed in self._recipe.seeds:
            for delta in self.deltas:
                yield self._adapter(seed, delta, None)
                yield self._validation(seed, delta, f"adapters/{seed}/{delta}")
            for method in self.methods:
                yield self._merge(seed, method, method, self.deltas)
                yield self._validation(seed, method, f"merges/{seed}/{method}")
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
            for control in self.controls(seed):
                *singles, merged = self.control_variants(control)
                for single in singles:
                    yield self._test(seed, single, f"adapters/{seed}/{single}", tuned=False)
                yield self._test(seed, merged, f"merges/{seed}/{merged}", tuned=True)
        yield self._geometry()

    def _prompts(self) -> Unit:
        prompts = self.domain.prompts
        return self._unit(
            "prompts",
            config=prompts,
            externals=_file(prompts.source),
            make=lambda work, inputs, bench: stages.write_prompts(work, prompts),
        )

    def _responses(self, label: str, source: ModelRef | Imported) -> Unit:
        name, inputs = f"responses/{label}", {"prompts": self._path("prompts")}
        count, sampling = self.domain.prompts.count, self.domain.sampling

        def make(work: Path, inputs: Mapping[str, Artifact], bench: Workbench) -> None:
            prompts = inputs["prompts"].path / stages.PROMPTS
            stages.write_responses(work, prompts, bench, source, sampling, self.domain.search)

        if isinstance(source, Imported):
            return self._unit(
                name,
                config={"source": source},
                inputs=inputs,
                externals={"source": partial(path_digest, source.path)},
                make=make,
                work=Work(disk=count * 2048),
            )
        return self._unit(
            name,
            config={"source": source, "sampling": sampling, "search": self.domain.search},
            inputs=inputs,
            externals={"source": partial(fingerprint, source), **self._corpus()},
            make=make,
            work=Work(samples=count, disk=count * 2048),
        )

    def _pairs(self, name: str) -> Unit:
        delta = next(delta for delta in self.domain.deltas if delta.name == name)
        weak, weaker = (label for label, _ in _labelled(delta.weak, delta.weaker))
        return self._unit(
            f"pairs/{name}",
            config={"filters": self.domain.filters, "delta": delta},
            inputs={
                "prompts": self._path("prompts"),
                "weak": self._path(f"responses/{weak}"),
                "weaker": self._path(f"responses/{weaker}"),
            },
            make=lambda work, inputs, bench: stages.write_pairs(
                work,
                inputs["prompts"].path / stages.PROMPTS,
                inputs["weak"].path / stages.RESPONSES,
                inputs["weaker"].path / stages.RESPONSES,
                self.domain.filters,
                portable({"delta": delta, "sampling": self.domain.sampling, "filters": self.domain.filters}),
            ),
            work=Work(disk=self.domain.prompts.count * 4096),
        )

    def _adapter(self, seed: int, delta: str, control: Control | None) -> Unit:
        training = self.domain.training
        if control == "sft":
            training = training.model_copy(update={"objective": "sft"})
        shared = training.lora.shared_init
        seeds = {"order": seed_from(seed, delta), "init": seed_from(seed, "init" if shared else delta)}
        steps = -(-int(self.domain.prompts.count * training.epochs) // training.batch_size)
        return self._unit(
            f"adapters/{seed}/{delta if control is None else f'{control}.{delta}'}",
            config={"training": training, "seeds": seeds, "control": control, "student": self._recipe.student},
            inputs={"pairs": self._path(f"pairs/{delta}"), **self._base},
            externals=self._student_weights(),
            make=lambda work, inputs, bench: stages.train(
                work,
                inputs["pairs"].path / stages.PAIRS,
                bench,
                self._student,
                training,
                seed=seeds["order"],
                init_seed=seeds["init"],
                control=control,
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
        groups = {"merges": self.methods, "singles": self.deltas, "controls": merged_controls}
        variants = {
            seed: [*self.deltas, *self.methods, *(merged_controls if self.controls(seed) else [])]
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
        files = {
            label: hashed
            for benchmark in domain.benchmarks
            for label, hashed in _file(benchmark.questions.source, f"benchmark {benchmark.name}").items()
        }
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
        return _file(self.domain.search.corpus, "corpus") if self.domain.search else {}

    def _student_weights(self) -> dict[str, Callable[[], str]]:
        return {} if self._base else {"student": partial(fingerprint, self._recipe.student)}

    def _path(self, name: str) -> str:
        return f"{self.name}/{name}"


def _sources(name: str, domain: Domain) -> dict[str, ModelRef | Imported]:
    sources: dict[str, ModelRef | Imported] = {}
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


def _labelled(*sources: ModelRef | Imported) -> list[tuple[str, ModelRef | Imported]]:
    return [(source_label(source), source) for source in sources]


def _file(source: str, label: str = "file") -> dict[str, Callable[[], str]]:
    """What a named file contributes to a key; nothing where the name is no file but embedded or on a hub."""
    local = source.startswith("/") or Path(source).exists()
    return {label: partial(path_digest, source)} if local else {}
