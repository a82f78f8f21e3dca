"""Every merge method against the dense code in its docstring, run from there, on updates of mixed ranks."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dense_oracles import oracles
from lora_fixtures import random_update
from prefdelta.linalg.lowrank import LowRank
from prefdelta.merging import METHODS, get_method
from prefdelta.merging.methods.sparsifiers import Noise

SHAPE = (26, 19)
RANKS = (3, 2, 4)
MODULE = "some.module"
SIGNED = {"average", "slerp", "nuslerp", "multislerp", "karcher", "model-stock", "pico-average"}
"""Methods that divide by the signed sum of the weights, or refuse negative ones."""

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gam": [{"reference": 2}, {"reference": 1}, {"reference": "chordal-mean"}, {"tolerance": 0.5}],
    "gam-orthonormal": [{"reference": 2}, {"reference": "chordal-mean"}],
    "gam-norm-matched": [{"reference": 2}, {"reference": "chordal-mean"}],
    "nuslerp": [{"per": "row"}, {"per": "column"}],
    "iso-c": [{"tolerance": 0.3}],
    "iso-cts": [{"common": 0.4}, {"common": 1.0}],
    "tsv-m": [{"tolerance": 0.3}],
    "truncate": [{"energy": 0.9}, {"directions": 2}, {"energy": 1}],
    "truncate-ties": [{"energy": 0.9, "density": 0.5}, {"directions": 2, "rank": 4}, {"energy": 1, "density": 1}],
    "lego": [{"rank": 2}, {"rank": 7}],
    "svd": [{"rank": 2}],
    "projection": [{"tolerance": 0.6}],
    "karcher": [{"steps": 1}],
    "robustmerge": [{"density": 0.3}, {"density": 1}],
    "regmean": [{"shrink": 0.3, "ridge": 0.1}],
    "pico-ties": [{"density": 0.5, "rank": 4}],
    "pico-tsv-m": [{"tolerance": 0.3}],
}
BY_RULE: dict[str, list[dict[str, Any]]] = {
    "ties": [{"density": 0.5}, {"density": 1}],
    "magnitude-prune": [{"density": 0.5}],
    "dare": [{"density": 0.3, "seed": 5}, {"density": 1}],
    "dare-ties": [{"density": 0.3, "seed": 5}],
    "breadcrumbs": [{"density": 0.5, "outliers": 0.1}, {"density": 0.9, "outliers": 0.4}],
    "breadcrumbs-ties": [{"density": 0.5, "outliers": 0.1}],
    "della": [{"density": 0.6, "spread": 0.4, "seed": 3}, {"density": 1}],
    "della-linear": [{"density": 0.6, "spread": 0.4, "seed": 3}],
    "sce": [{"density": 0.5}, {"density": 1}],
}
BY_SPACE: dict[str, list[dict[str, Any]]] = {
    "": [{"rank": 4}, {"rank": 19}],
    "knots": [{"shared": "input"}],
    "core": [],
    "ctm": [{"rank": 3}, {"beta": 1.0}],
}


def chosen_options(name: str) -> list[dict[str, Any]]:
    space, _, rule = name.partition("-") if name.split("-")[0] in BY_SPACE else ("", "", name)
    if rule not in BY_RULE:
        return [{}, *OPTIONS.get(name, [])]
    return [{}, *BY_RULE[rule], *BY_SPACE[space], {**BY_RULE[rule][0], **(BY_SPACE[space] or [{}])[0]}]


def compare(name: str, deltas: Sequence[LowRank], weights: Sequence[float], options: dict[str, Any]) -> None:
    method = get_method(name)
    result = method(deltas, weights=weights, options=options, module=MODULE).dense()
    arguments = method.parse(options).model_dump()
    if "seed" in arguments:
        noise = Noise(arguments.pop("seed"), MODULE)
        arguments["uniform"] = lambda position, rows, columns: noise.uniform(position, 0, rows, columns)
    if "activations" in arguments:
        del arguments["activations"]
        arguments["inputs"] = activations(len(deltas))
    expected = oracles()[name]([delta.dense() for delta in deltas], list(weights), **arguments)
    single = method.implementation.full is not None  # entries of ΔW are combined in float32
    close = {"rtol": 1e-4, "atol": 1e-4} if single else {"rtol": 1e-7, "atol": 1e-7}
    torch.testing.assert_close(result, expected.to(torch.float64), **close)


def activations(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(9 + 5 * index, SHAPE[1], generator=generator, dtype=torch.float64) for index in range(count)]


def updates(name: str) -> list[LowRank]:
    """Updates of mixed ranks and sizes that share some directions, as many as the method takes."""
    shared = random_update(9, SHAPE, 1)
    own = [random_update(seed, SHAPE, rank - 1, 1 + 0.3 * seed) for seed, rank in enumerate(RANKS)]
    deltas = [LowRank(torch.cat([shared.B, part.B], dim=1), torch.cat([shared.A, part.A])) for part in own]
    return deltas[: METHODS[name].adapters[1]]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for index, inputs in enumerate(activations(len(RANKS))):
        paths.append(str(tmp_path / f"{index}.safetensors"))
        save_file({MODULE: inputs}, paths[-1])
    return paths


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_is_the_code_in_its_docstring(name: str, files: list[str]) -> None:
    deltas = updates(name)
    for options in chosen_options(name):
        given = {"activations": files, **options} if name == "regmean" else options
        compare(name, deltas, [1.0] * len(deltas), given)
        compare(name, deltas, [0.5, 2.0, 1.25][: len(deltas)], given)
        if name not in SIGNED and not name.startswith("gam"):
            compare(name, deltas, [1.0, -2.0, 0.5], given)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"regmean"}))
def test_a_zero_update_and_a_weight_of_zero_are_in_the_code_too(name: str) -> None:
    deltas = updates(name)
    with_zero = [deltas[0], LowRank.zero(SHAPE), *deltas[1:]][: METHODS[name].adapters[1]]
    compare(name, with_zero, [1.0] * len(with_zero), {})
    compare(name, deltas, [1.0, 0.0, 2.0][: len(deltas)], {})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_code_takes_every_option(name: str) -> None:
    stands_for = {"seed": "uniform", "activations": "inputs"}
    options = {stands_for.get(option, option) for option in METHODS[name].options.model_fields}
    assert set(inspect.signature(oracles()[name]).parameters) == {"deltas", "weights", *options}


def test_more_directions_than_the_module_has_sides() -> None:
    """TSV-M takes each update's leading ones then; other methods have nothing to decide."""
    deltas = [random_update(seed, (9, 7), 4) for seed in range(3)]
    for name in ("tsv-m", "iso-c", "iso-cts", "lego", "knots-ties", "core-ties", "linear"):
        compare(name, deltas, [1.0, 0.5, 2.0], {})


def test_more_adapters_than_the_module_has_sides() -> None:
    deltas = [random_update(seed, (4, 7), 1) for seed in range(5)]
    compare("tsv-m", deltas, [1.0, 0.5, 2.0, 1.0, 1.0], {})
    assert get_method("tsv-m")(deltas).norm() > 0


def test_updates_take_no_more_directions_than_the_sum_has() -> None:
    deltas = [random_update(seed, (9, 40), 1) for seed in range(10)]
    compare("iso-cts", deltas, [1.0] * 10, {"common": 0.4})
    assert get_method("iso-cts").run(deltas, options={"common": 0.4}).notes["common_directions"] == 9
