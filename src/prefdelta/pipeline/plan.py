"""From a recipe to the ordered list of its units of work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefdelta.errors import PrefdeltaError
from prefdelta.models import fingerprint
from prefdelta.pipeline import stages
from prefdelta.pipeline.estimate import lora_bytes
from prefdelta.pipeline.unit import Unit, Work, Workbench
from prefdelta.recipe import Control, Domain, Imported, ModelRef, Recipe
from prefdelta.records import digest
from prefdelta.store import Artifact, file_digest

STUDENT = "student"
CONTROL_MERGE = "average"
"""Controls are merged by plain averaging: they ask what the labels teach, not which merge is best."""


_RESUMABLE = ("responses", "adapters", "validation", "test")


class Plan:
    """The units of one recipe, in an order in which every unit finds its inputs made.

    Args:
        recipe: what to run.
        root: the run directory.

    Attributes:
        student: the student as a Hugging Face model, wherever the recipe has it from.
        cache: where reference log-probabilities are kept; not an artifact, it may be deleted at any time.
        domains: the plan of each domain.
        units: the units, in order.
    """

    def __init__(self, recipe: Recipe, root: Path) -> None:
        self.recipe = recipe
        self.student = recipe.student
        self.cache = root / ".cache" / "reference"
        self.domains: dict[str, DomainPlan] = {}
        self.units: list[Unit] = []
        if recipe.student.format != "huggingface":
            self.units.append(_conversion(recipe.student))
            self.student = ModelRef(path=str(root / STUDENT / "model"), dtype=recipe.student.dtype)
        for name, domain in recipe.domains.items():
            self.domains[name] = DomainPlan(self, name, domain)
            self.units.extend(self.domains[name].units())


def _conversion(student: ModelRef) -> Unit:
    return Unit(
        name=STUDENT,
        stage="convert",
        config={"format": student.format},
        inputs={},
        externals={"checkpoint": partial(path_digest, student.path)},
        make=lambda work, inputs, bench: stages.convert_student(work, student),
    )


class DomainPlan:
    """The units of one domain, and the names of what it evaluates."""

    def __init__(self, plan: Plan, name: str, domain: Domain) -> None:
        self._plan = plan
        self._recipe = plan.recipe
        self.name = name
        self.domain = domain
        self.deltas = [delta.name for delta in domain.deltas]
        self.methods = list(plan.recipe.merge.methods)
        self.sources = _sources(name, domain)
        self._base = {STUDENT: STUDENT} if plan.student is not plan.recipe.student else {}

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
                self._plan.student,
                training,
                seed=seeds["order"],
                init_seed=seeds["init"],
                control=control,
                cache=self._plan.cache,
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
                work, _adapter(inputs), bench, self._plan.student, self.domain, scales, seed
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
                self._plan.student,
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


def source_label(source: ModelRef | Imported) -> str:
    """A folder name for a model or a file of answers: the end of its path."""
    end = source.path.rstrip("/").rsplit("/", 1)[-1].removeprefix("micro:")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", end.removesuffix(".zip").removesuffix(".jsonl"))


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2^31) that depends on all the parts."""
    return int(digest(parts)[:8], 16) % 2**31


def portable(value: Any) -> Any:
    """Plain values without machine paths: an absolute path becomes its last part (its content is hashed apart)."""
    if isinstance(value, BaseModel):
        return portable(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: portable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return value


def path_digest(path: str) -> str:
    """The hash of a file's bytes, or of all files in a folder.

    Raises:
        PrefdeltaError: nothing is there.
    """
    where = Path(path)
    if where.is_file():
        return file_digest(where)
    if where.is_dir():
        return digest(
            {str(file.relative_to(where)): file_digest(file) for file in sorted(where.rglob("*")) if file.is_file()}
        )
    raise PrefdeltaError(f"the recipe names {path}, which does not exist.")


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
    return {label: partial(path_digest, source)} if source.startswith("/") else {}
