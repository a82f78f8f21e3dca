"""The deltas that are measured: runs of the demo's recipe with other seeds, families, lengths and baselines."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from evidence.systematic import DOMAIN, SYSTEMATIC, systematic, systematic_folder
from prefdelta import micro
from prefdelta.experiments.published import RUN
from prefdelta.experiments.run import run_recipe
from prefdelta.recipe import Recipe, configure_recipe

DEMO = Path(micro.__file__).parent / "demo.yaml"
SHIPPED = "shipped"
"""The embedded family; another is called by the number that is added to every seed when its models are trained."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {"objective": "dpo", "beta": 0.5},
    "orpo": {"objective": "orpo", "beta": 20.0},
    "ipo": {"objective": "ipo", "beta": 0.5},
    "simpo": {"objective": "simpo", "beta": 2.0},
}
"""Objectives beside the demo's own; the first two with its β in the other domain, the others untuned."""

OWN_OBJECTIVE = {"reasoning": "dpo", "search": "orpo"}
"""What the demo's domains train with."""


@dataclass(frozen=True)
class Deltas:
    """A run's worth of deltas.

    Attributes:
        family: whose weak models wrote the pairs, and whose student is trained.
        seeds: training seeds.
        epochs: passes over the pairs.
        prompts: how many questions the weak models answer.
        baselines: ``joint`` and ``sequential`` training, or none.
        reversed: whether the same deltas are also trained on reversed labels, with the first seed.
        rank: of the adapters.
        objective: a key of :data:`OBJECTIVES` that all domains train with; empty for the demo's own.
        systematic: whether a delta of one systematic mistake is trained beside them, with the first seed.
        domains: which of the demo's.
        sources: families whose weak models teach the one student, each with four deltas; none but the student's own
            if empty.
    """

    family: str
    seeds: tuple[int, ...]
    epochs: float = 1.0
    prompts: int = 2000
    baselines: tuple[str, ...] = ()
    reversed: bool = False
    rank: int = 8
    objective: str = ""
    systematic: bool = False
    domains: tuple[str, ...] = ("reasoning", "search")
    sources: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Runs of one family, length and rank share a folder, and with it their answers and pairs."""
        trained = "-".join(filter(None, (f"x{self.epochs:g}", f"r{self.rank}", self.objective)))
        return f"{self.taught_by}-{trained}-p{self.prompts}"

    @property
    def taught_by(self) -> str:
        """The families whose weak models wrote the pairs."""
        return "+".join(self.sources) or self.family

    def recipe(self, root: Path) -> dict[str, Any]:
        """The demo's recipe with these deltas, and next to nothing measured of them.

        Args:
            root: where the models of other families are.
        """
        recipe: dict[str, Any] = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
        del recipe["x-shared"]
        recipe |= {
            "name": "evidence",
            "student": model(root, self.family, "student"),
            "seeds": list(self.seeds),
            "baselines": list(self.baselines),
            "controls": ["reversed"] if self.reversed else [],
            "control_seeds": [self.seeds[0]] if self.reversed else None,
            "merge": {"methods": ["average"], "scales": [1.0]},
            "evaluate_weak": False,
        }
        recipe["domains"] = {name: recipe["domains"][name] for name in self.domains}
        for domain in recipe["domains"].values():
            domain["prompts"]["count"] = self.prompts
            domain["training"] |= {"lora": {"r": self.rank, "alpha": 2 * self.rank}, "epochs": self.epochs}
            domain["training"] |= OBJECTIVES.get(self.objective, {})
            names = [delta["name"] for delta in domain["deltas"]]
            members = [member(name, source) for source in self.sources or ("",) for name in names]
            domain["deltas"] = [
                {"name": name}
                | {
                    side: {"path": path, "name": f"{name}-{side}"}
                    for side, path in weak_models(root, self.family, name).items()
                }
                for name in members
            ]
            for benchmark in domain["benchmarks"]:
                benchmark |= {"validation": 8, "test": 8}
        return recipe


def member(name: str, source: str) -> str:
    """What the delta of a weak model is called: its own name in the student's family, with the ``source`` in others."""
    return f"{name}-{source}" if source else name


def weak_models(root: Path, family: str, delta: str) -> dict[str, str]:
    """The two models behind a delta (see :func:`member`) whose student is of ``family``."""
    name, _, source = delta.partition("-")
    return {side: model(root, source or family, f"{name}-{side}") for side in ("weak", "weaker")}


def model(root: Path, family: str, name: str) -> str:
    """A family's model; those of another family than the shipped one are trained first, once."""
    if family == SHIPPED:
        return f"micro:{name}"
    from micro_family.train import train_family  # here, as nothing else needs the scripts on the path

    folder, working = root / "families" / family, root / "families" / f".{family}"
    if not folder.exists():
        shutil.rmtree(working, ignore_errors=True)
        train_family(working, int(family))
        working.rename(folder)
    return str(folder.resolve() / name)


def trained(root: Path, deltas: Deltas, console: Console) -> Path:
    """Train what is missing of some deltas under ``root``; returns their run directory.

    Answers and pairs do not depend on how long is trained, so those of the family's first run are copied.
    """
    recipe = deltas.recipe(root)
    run = root / "deltas" / deltas.folder
    donors = sorted(other for other in run.parent.glob(f"{deltas.taught_by}-*-p{deltas.prompts}") if other != run)
    if donors and not run.exists():
        for domain in recipe["domains"]:
            for made in ("prompts", "responses", "pairs"):
                shutil.copytree(donors[0] / domain / made, run / domain / made)
        shutil.copyfile(donors[0] / RUN, run / RUN)
    configured = configure_recipe(recipe, origin="evidence")
    assert isinstance(configured, Recipe)
    run_recipe(configured, run, console=console)
    if deltas.systematic:
        systematic(configured, run, deltas.seeds[0], recipe["domains"][DOMAIN]["deltas"][0]["name"])
    return run


def adapters(run: Path, domain: str, seed: int, names: Sequence[str]) -> list[Path]:
    """The folders of some adapters: deltas, ``joint``, ``sequential.NAME``, ``reversed.NAME``, ``systematic.NAME``."""
    of_run, beside = run / domain / "adapters" / str(seed), systematic_folder(run, domain, seed)
    return [(beside if name.startswith(SYSTEMATIC) else of_run) / name for name in names]
