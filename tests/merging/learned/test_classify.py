"""Classifiers: heads, masks, entropies, and the null-space ratio."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lora_fixtures import save_lora
from merging.learned.conftest import Case
from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging.learned.classify import (
    cross_entropy,
    embedding_logits,
    entropies,
    entropy,
    head_logits,
    stored_head,
)
from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.nullspace import null_space_ratio, outside
from prefdelta.merging.learned.tasks import Task, find_anchors, mean_objective
from tiny_tasks import KINDS, make_head


def test_entropies():
    assert float(entropies(torch.zeros(7))) == pytest.approx(math.log(7))
    assert float(entropies(torch.tensor([0.0, 0.0, -torch.inf]))) == pytest.approx(math.log(2))
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    p = logits.softmax(-1)
    torch.testing.assert_close(entropies(logits), -(p * p.log()).sum(-1))
    entropies(torch.tensor([[90.0, -90.0]]).requires_grad_()).sum().backward()


@pytest.mark.parametrize("name", ["vit", "sequence"])
def test_a_head_in_place_of_the_models_own(name):
    kind = KINDS[name]
    model, head = kind.model(), make_head(kind, 1, classes=6)
    batch = kind.collate(kind.rows(0, 3))
    with torch.no_grad():
        found = head_logits(head)(model, batch)
        for key, value in head.items():
            model.get_parameter(key).data = value
        assert found.shape == (3, 6)
        torch.testing.assert_close(found, model(**batch).logits)


def test_classes_that_a_task_lacks_are_left_out_everywhere(vit: Case):
    """Objective, anchor and evaluation see one set of classes; the masked ones cannot move any of them."""
    head = make_head(vit.kind, 1)
    batch = vit.kind.collate(vit.kind.rows(0, 3))
    masked = head_logits(head, classes=(0, 2))
    other = {key: value.clone() for key, value in head.items()}
    for value in other.values():
        value[1] += 5.0
    with torch.no_grad():
        assert masked(vit.model, batch).shape == (3, 2)
        assert torch.equal(masked(vit.model, batch), head_logits(head)(vit.model, batch)[:, [0, 2]])
        torch.testing.assert_close(masked(vit.model, batch), head_logits(other, classes=(0, 2))(vit.model, batch))
        assert float(entropy(masked)(vit.model, batch).max()) <= math.log(2) + 1e-6
    data = Rows(vit.kind.rows(0, 5), vit.kind.collate)
    anchors = find_anchors(vit.model, vit.adapters, [Task("t", data, entropy(masked), own=1)])
    with adapted(vit.model, vit.adapters[1], fold=False) as alone, torch.no_grad():
        values = entropies(head_logits(head)(alone, next(data.once()))[:, [0, 2]])
    assert anchors["t"] == pytest.approx(float(values.mean()), abs=1e-6)


def test_stored_heads(vit: Case, tmp_path):
    save_lora(vit.kind.model(), tmp_path, seed=9, r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    head = stored_head(Adapter.open(tmp_path))
    assert sorted(head) == ["classifier.bias", "classifier.weight"]
    batch = vit.kind.collate(vit.kind.rows(0, 2))
    with torch.no_grad():
        torch.testing.assert_close(head_logits(head)(vit.model, batch), vit.model(**batch).logits)
    with pytest.raises(PrefdeltaError, match="holds no classification head"):
        stored_head(vit.adapters[0])


class Encoder(nn.Module):
    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(image_embeds=pixel_values)


def test_zero_shot_logits_are_scaled_cosines():
    text = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    batch = {"pixel_values": torch.tensor([[5.0, 0.0], [0.0, 0.1]])}
    found = embedding_logits(text, scale=10.0)(Encoder(), batch)
    half = 10 * math.sqrt(0.5)
    torch.testing.assert_close(found, torch.tensor([[10.0, 0.0, half], [0.0, 10.0, half]]))
    torch.testing.assert_close(embedding_logits(text, classes=(2, 0))(Encoder(), batch), found[:, [2, 0]] / 10)


def test_cross_entropy(vit: Case):
    logits = head_logits(make_head(vit.kind, 0))
    batch, labels = vit.kind.collate(vit.kind.rows(0, 3)), torch.tensor([1, 0, 3])
    with torch.no_grad():
        values = cross_entropy(logits)(vit.model, (batch, labels))
        expected = -logits(vit.model, batch).log_softmax(-1)[torch.arange(3), labels]
    torch.testing.assert_close(values, expected)


def test_the_share_outside_a_subspace():
    basis = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).Q
    inside, x = basis @ torch.tensor([2.0, -1.0]), torch.randn(6, generator=torch.Generator().manual_seed(1))
    perpendicular = x - basis @ (basis.T @ x)
    found = outside(torch.stack([inside, perpendicular, inside + perpendicular, torch.zeros(6)]), basis)
    mixed = float(perpendicular.norm() / (inside + perpendicular).norm())
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, mixed, 0.0]), rtol=1e-4, atol=1e-3)


def ratio_of(adapter: Adapter, model: torch.nn.Module):
    """The ratio on batches of the backbone's arguments; all tokens count where no mask says which."""
    return null_space_ratio(
        adapter,
        model,
        run=lambda model, batch: model.base_model(**batch),
        counted=lambda batch: batch.get("attention_mask", torch.ones(1)),
    )


def test_null_space_ratio_is_its_formula(case: Case):
    """Against the published formula with AAᵀ, token by token, from inputs caught at the modules."""
    adapter, model = case.adapters[0], case.model
    batch = case.kind.collate(case.kind.rows(3, 2))
    seen: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(module).register_forward_pre_hook(
            lambda _, inputs, module=module: seen.__setitem__(module, inputs[0])
        )
        for module in adapter.modules
    ]
    with torch.no_grad():
        found = ratio_of(adapter, model)(model, batch)
    for handle in handles:
        handle.remove()
    per_module = []
    for module in adapter.modules:
        x, a = seen[module].double(), adapter.load(module, torch.float64).A
        y = x @ a.T
        inner = torch.einsum("...i,ij,...j->...", y, torch.linalg.inv(a @ a.T), y)
        per_module.append((1 - inner / x.square().sum(-1)).sqrt().flatten(1).mean(1))
    torch.testing.assert_close(found.double(), torch.stack(per_module).mean(0), rtol=1e-4, atol=1e-5)


def test_null_space_ratio_leaves_padding_out(tmp_path):
    model = KINDS["sequence"].model()
    save_lora(model, tmp_path, seed=1, r=2, target_modules=["q_proj", "down_proj"])
    ratio = ratio_of(Adapter.open(tmp_path), model)
    ids = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        short = ratio(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        torch.testing.assert_close(ratio(model, {"input_ids": padded, "attention_mask": mask}), short)
        assert float((ratio(model, {"input_ids": padded}) - short).abs()) > 1e-4


def test_an_objective_that_is_not_finite(vit: Case):
    task = Task("broken", Rows([1.0], lambda rows: torch.tensor(rows)), lambda model, batch: batch / 0)
    with pytest.raises(PrefdeltaError, match="'broken' is inf"):
        mean_objective(vit.model, task)


def test_rows():
    rows = Rows(list(range(7)), lambda batch: batch, batch_size=3, micro_batch_size=2)
    steps = [next_ for next_, _ in zip(rows.stream(5), range(6), strict=False)]
    for start in (0, 3):  # every pass shows each row once
        assert sorted(row for step in steps[start : start + 3] for part in step for row in part) == list(range(7))
    assert [len(part) for part in steps[0]] == [2, 1]
    assert [len(part) for part in steps[2]] == [1]
    assert steps[:3] != steps[3:]
    later = rows.stream(5, start=4)
    assert [next(later), next(later)] == steps[4:6]
    assert [next(rows.stream(6))] != steps[:1]
    assert [row for part in rows.once() for row in part] == list(range(7))
    with pytest.raises(PrefdeltaError, match="no data"):
        Rows([], lambda batch: batch)
