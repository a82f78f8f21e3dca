"""Learning on tiny models of three kinds: what comes out is the merge that was learned, and only φ moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from lora_fixtures import save_lora
from merging.learned.conftest import Case
from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging import merge
from prefdelta.merging.learned.branches import branches
from prefdelta.merging.learned.classify import entropies
from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.learn import COEFFICIENTS, learn
from prefdelta.merging.learned.merged_model import directions_and_layout, folded_adapter, merged_model
from prefdelta.merging.learned.methods import LEARNED
from prefdelta.merging.learned.optimise import task_gradient
from prefdelta.merging.learned.tasks import Task, find_anchors, mean_objective
from prefdelta.recipe.learning import Learning
from tiny_tasks import KINDS, make_tasks

QUICK = Learning(steps=6, learning_rate=0.05, checkpoint_steps=2)
BRIEF = Learning(steps=3, learning_rate=0.1)
SUMS = ("tara-a", "tara-b", "ada-task", "ada-module")


def outputs(model: nn.Module, case: Case) -> torch.Tensor:
    with torch.no_grad():
        return model(**case.kind.collate(case.kind.rows(7, 3))).logits


def tasks_for(case: Case) -> list[Task]:
    """Entropy tasks; for a model without a head, the entropy of its last token's prediction."""
    if case.kind.head:
        return make_tasks(case.kind, len(case.adapters))

    def objective(model, batch):
        return entropies(model(**batch).logits[:, -1])

    return [
        Task(f"task{index}", Rows(case.kind.rows(50 + index, 8), case.kind.collate, batch_size=4), objective, own=index)
        for index in range(len(case.adapters))
    ]


@pytest.mark.parametrize("method", SUMS)
def test_starts_as_task_arithmetic(case: Case, method, tmp_path):
    merge([adapter.path for adapter in case.adapters], tmp_path / "sum", method="linear", scale=0.4)
    modules = sorted({module for adapter in case.adapters for module in adapter.modules})
    parts, layout = directions_and_layout(case.model, case.adapters, method)
    start = layout.constant(0.4)
    with branches(case.model, parts, lambda module: layout.of(start, module)) as model:
        learned = outputs(model, case)
    with adapted(case.model, Adapter.open(tmp_path / "sum"), fold=False) as model:
        torch.testing.assert_close(learned, outputs(model, case), rtol=1e-5, atol=1e-5)
    named = layout.named(start)
    update = folded_adapter(case.adapters, method=method, coefficients=named)
    reference = Adapter.open(tmp_path / "sum")
    for module in modules:
        torch.testing.assert_close(update.load(module).dense(), reference.load(module).dense(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", LEARNED)
def test_folding_equals_the_unfolded_model(case: Case, method, tmp_path):
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    report = learn(case.model, case.adapters, tasks_for(case), method=method, folder=tmp_path, settings=BRIEF)
    coefficients = load_file(tmp_path / COEFFICIENTS)
    assert report.coefficients == sum(value.numel() for value in coefficients.values())
    assert any(bool((value - 0.4).abs().max() > 0.01) for value in coefficients.values())

    base = outputs(case.model, case)
    with merged_model(case.model, case.adapters, method=method, coefficients=coefficients) as model:
        unfolded = outputs(model, case)
    with adapted(case.model, Adapter.open(tmp_path), fold=False) as model:
        folded = outputs(model, case)
    assert float((unfolded - base).abs().max()) > 0.05
    torch.testing.assert_close(folded, unfolded, rtol=1e-4, atol=1e-4)
    in_memory = folded_adapter(case.adapters, method=method, coefficients=coefficients)
    with adapted(case.model, in_memory, fold=False) as model:
        assert torch.equal(outputs(model, case), folded)
    reloaded = PeftModel.from_pretrained(case.kind.model(), str(tmp_path)).eval()
    torch.testing.assert_close(outputs(reloaded, case), unfolded, rtol=1e-4, atol=1e-4)

    # Only φ was learned: the base is what it was, and so are its switches.
    assert all(torch.equal(value, before[name]) for name, value in case.model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in case.model.parameters())


def test_gradients_reach_the_coefficients_only(vit: Case):
    parts, layout = directions_and_layout(vit.model, vit.adapters, "tara-b")
    vector = layout.constant(0.4).requires_grad_()
    task = make_tasks(vit.kind, 1)[0]
    with branches(vit.model, parts, lambda module: layout.of(vector, module)) as model:
        assert not any(parameter.requires_grad for parameter in model.parameters())
        task.objective(model, next(task.data.once())).mean().backward()
    assert vector.grad is not None
    assert float(vector.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in vit.model.parameters())
    assert not any(part.left.requires_grad or part.right.requires_grad for part in parts.values())


def test_the_gradient_is_that_of_the_objective(vit: Case):
    """Against finite differences, so that hooks, cores and micro-batches cannot agree on a wrong number."""
    model = vit.kind.model().double()
    task = make_tasks(vit.kind, 1, rows=6, batch_size=6)[0]
    logits = lambda model, batch: model(pixel_values=batch["pixel_values"].double()).logits  # noqa: E731
    objective = lambda model, batch: -(logits(model, batch).softmax(-1) ** 2).sum(-1)  # noqa: E731
    task = Task("task", task.data, objective)
    for name in LEARNED:
        parts, layout = directions_and_layout(model, vit.adapters, name)
        vector = layout.constant(0.4).double().requires_grad_()
        batch = next(task.data.once())
        halves = [{"pixel_values": batch["pixel_values"][rows]} for rows in (slice(0, 4), slice(4, 6))]
        with branches(model, parts, lambda module: layout.of(vector, module)) as branched:  # noqa: B023
            value, gradient = task_gradient(branched, vector, task, halves)
            step = torch.randn(layout.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            ends = []
            for sign in (1e-5, -1e-5):
                with torch.no_grad():
                    vector += sign * step
                    ends.append(mean_objective(branched, task))
                    vector -= sign * step
        assert float(value) == pytest.approx(mean_between(ends), abs=1e-6)
        assert float(gradient @ step) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def mean_between(ends: list[float]) -> float:
    return sum(ends) / len(ends)


def test_the_objective_falls(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3, rows=4, batch_size=4)  # every step sees all rows
    settings = Learning(steps=12, learning_rate=0.1)
    totals = {}
    for method in ("ada-task", "ada-module", "tara-a", "tara-b"):
        report = learn(vit.model, vit.adapters, tasks, method=method, folder=tmp_path / method, settings=settings)
        lines = [json.loads(line) for line in (tmp_path / method / "learning.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, 13))
        assert report.first_total == lines[0]["total"]
        assert report.last_total == lines[-1]["total"]
        assert report.last_total < report.first_total - 1e-3
        assert sum(lines[0]["weights"].values()) == pytest.approx(1 / 3)  # Σ wᵢ ρᵢ at equal ρ = 1/3
        totals[method] = (report.first_total, report.last_total, report.coefficients)
    # All start from the same model; a finer choice of directions can do no worse on what it is fitted to.
    assert len({round(first, 5) for first, _, _ in totals.values()}) == 1
    assert totals["tara-a"][1] < totals["ada-module"][1] < totals["ada-task"][1]
    assert [count for _, _, count in totals.values()] == sorted(count for _, _, count in totals.values())


def test_tasks_and_preference_in_another_order(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3)
    settings = QUICK.model_copy(update={"preference": (0.5, 0.3, 0.2)})
    turned = QUICK.model_copy(update={"preference": (0.2, 0.5, 0.3)})
    for method in ("tara-a", "tara-b", "ada-module"):
        learn(vit.model, vit.adapters, tasks, method=method, folder=tmp_path / method, settings=settings)
        again = [Task(task.name, task.data, task.objective, own=(task.own + 1) % 3) for task in tasks]
        learn(
            vit.model,
            [vit.adapters[2], vit.adapters[0], vit.adapters[1]],
            [again[2], again[0], again[1]],
            method=method,
            folder=tmp_path / f"{method}-turned",
            settings=turned,
        )
        first, second = (Adapter.open(tmp_path / name) for name in (method, f"{method}-turned"))
        for module in first.modules:
            torch.testing.assert_close(first.load(module).dense(), second.load(module).dense(), rtol=1e-3, atol=1e-4)


def test_preference_steers(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3, rows=4, batch_size=4)
    ends = []
    for weight in (0.05, 0.95):
        rest = (1 - weight) / 2
        settings = Learning(steps=12, learning_rate=0.1, preference=(weight, rest, rest), scalarisation="linear")
        report = learn(
            vit.model, vit.adapters, tasks, method="tara-b", folder=tmp_path / str(weight), settings=settings
        )
        ends.append(report.tasks[0].last)
    assert ends == sorted(ends, reverse=True)


def test_anchors_are_those_of_each_adapter_alone(vit: Case):
    tasks = make_tasks(vit.kind, 3)
    anchors = find_anchors(vit.model, vit.adapters, tasks)
    for task, adapter in zip(tasks, vit.adapters, strict=True):
        alone = PeftModel.from_pretrained(vit.kind.model(), str(adapter.path)).eval()
        # PEFT renames modules, so the head goes by another way: fold and ask the folded model.
        assert anchors[task.name] == pytest.approx(mean_objective(alone.merge_and_unload(), task), abs=1e-5)
    with pytest.raises(PrefdeltaError, match="anchored by adapter 5"):
        find_anchors(vit.model, vit.adapters, [Task("x", tasks[0].data, tasks[0].objective, own=5)])


class Killed(Exception):
    pass


def test_resuming_gives_the_same_bytes(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3)

    def run(folder: Path, until: int | None) -> None:
        def progress(done: int, total: int) -> None:
            if done == until:
                raise Killed

        learn(
            vit.model,
            vit.adapters,
            tasks,
            method="tara-b",
            folder=folder,
            settings=QUICK,
            progress=progress,
        )

    generator = torch.random.get_rng_state()
    run(tmp_path / "whole", None)
    assert torch.equal(generator, torch.random.get_rng_state())  # nor does the global one decide anything
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "checkpoints" not in files
    for killed_after in (1, 5):
        killed = tmp_path / f"killed-{killed_after}"
        torch.manual_seed(killed_after)
        with pytest.raises(Killed):
            run(killed, killed_after)
        assert (killed / "checkpoints").exists() == (killed_after >= 2)
        run(killed, None)
        assert files == sorted(path.name for path in killed.iterdir())
        for name in files:
            assert (tmp_path / "whole" / name).read_bytes() == (killed / name).read_bytes(), name


def test_a_checkpoint_of_another_run_is_not_used(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 4 and len(seen) == 4:
            raise Killed

    with pytest.raises(Killed):
        learn(vit.model, vit.adapters, tasks, method="tara-a", folder=tmp_path, settings=QUICK, progress=stop)
    learn(vit.model, vit.adapters, tasks, method="tara-a", folder=tmp_path, settings=QUICK, seed=1, progress=stop)
    assert seen == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]


def test_mistakes(vit: Case, tmp_path):
    tasks = make_tasks(vit.kind, 3)

    def refused(message: str, **changes):
        arguments = {"method": "tara-a", "folder": tmp_path / "out", "settings": QUICK, **changes}
        given = arguments.pop("tasks", tasks)
        with pytest.raises(PrefdeltaError, match=message):
            learn(arguments.pop("model", vit.model), vit.adapters, given, **arguments)

    refused("2 weights for 3 tasks", settings=QUICK.model_copy(update={"preference": (0.5, 0.5)}))
    refused("share a name", tasks=[*tasks[:2], tasks[0]])
    refused("no learned merge 'ties'", method="ties")
    refused("which this base model lacks", model=KINDS["sequence"].model())
    constant = Task("task", tasks[0].data, lambda model, batch: torch.ones(2))
    refused("does not depend on the coefficients", tasks=[constant])
    infinite = Task("task", tasks[0].data, lambda model, batch: tasks[0].objective(model, batch) * float("inf"))
    refused("is inf at step 1", tasks=[infinite])
    refused("share a name|would replace", folder=vit.adapters[0].path)
    (tmp_path / "theirs" / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    early = Task("task", tasks[0].data, lambda model, batch: pytest.fail("work began"), own=0)
    refused("did not write", folder=tmp_path / "theirs", tasks=[early, *tasks[1:]])
    assert (tmp_path / "theirs" / "checkpoints" / "checkpoint-7").is_dir()
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_heads_beside_adapters_are_left_to_their_tasks(vit: Case, tmp_path):
    folder = tmp_path / "with-head"
    save_lora(
        vit.kind.model(), folder, seed=9, r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    adapters = [Adapter.open(folder), vit.adapters[1]]
    assert adapters[0].extra
    learn(vit.model, adapters, make_tasks(vit.kind, 2), method="tara-a", folder=tmp_path / "out", settings=QUICK)
    assert Adapter.open(tmp_path / "out").extra == ()
    shutil.rmtree(folder)
