"""What a model gets right, and adapters on it for a while."""

from __future__ import annotations

import torch
from torch import nn

from prefdelta.adapters import AdapterInfo, MemoryAdapter
from prefdelta.adapters.applied import adapted
from prefdelta.experiments.suites.backbone.encoder import Encoder, Head
from prefdelta.experiments.suites.data.task import Examples
from prefdelta.experiments.suites.measure import (
    Trial,
    _place,
    joint_head,
    measure,
    read_outcomes,
    union_labels,
    write_outcomes,
)
from prefdelta.experiments.suites.tuning import settings_of
from prefdelta.linalg.lowrank import LowRank
from prefdelta.recipe.suite import LearnedMethod, TriedMethod


class Linear(nn.Module):
    """Just enough of a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5, bias=False)
        self.device = torch.device("cpu")


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Linear(), lambda model, inputs: model.layer(inputs["x"]), 5)  # type: ignore[arg-type]


def trials() -> list[Trial]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for name, classes in (("a", ("one", "two", "three")), ("b", ("two", "four"))):
        inputs = {"x": torch.randn(20, 4, generator=generator)}
        labels = torch.randint(len(classes), (20,), generator=generator)
        found.append(
            Trial(name, Examples(inputs, labels), Head(torch.randn(len(classes), 5, generator=generator)), classes)
        )
    return found


def test_outcomes_are_those_of_the_heads_in_any_batch_size(tmp_path) -> None:  # type: ignore[no-untyped-def]
    backbone, tasks = encoder(), trials()
    joint = joint_head(tasks)
    assert joint.head.weight.shape == (4, 5)
    assert joint.places == {"a": (0, 1, 2), "b": (1, 3)}
    assert torch.equal(joint.head.weight[1], tasks[0].head.weight[1])
    found = measure(backbone, backbone.model, tasks, joint, batch=7)
    again = measure(backbone, backbone.model, tasks, joint, batch=20)
    with torch.no_grad():
        for task in tasks:
            features = backbone.model.layer(task.examples.inputs["x"])
            right = task.head(features).argmax(-1) == task.examples.labels
            assert torch.equal(found[task.name].correct, right)
            assert torch.equal(found[task.name].correct, again[task.name].correct)
            own = torch.tensor(joint.places[task.name])[task.examples.labels]
            place = found[task.name].joint_place
            assert place is not None
            logits = joint.head(features)
            for k in (1, 2):
                hits = (logits.topk(k).indices == own[:, None]).any(dim=1)
                assert torch.equal(place < k, hits)
    write_outcomes(tmp_path / "o.safetensors", found)
    assert torch.equal(read_outcomes(tmp_path / "o.safetensors")["b"].correct, found["b"].correct)


def test_folding_an_adapter_is_the_branch_and_leaves_no_trace() -> None:
    backbone = encoder()
    update = LowRank(torch.randn(5, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64))
    adapter = MemoryAdapter("x", {"layer": update}, AdapterInfo(), torch.float32)
    before, x = backbone.model.layer.weight.detach().clone(), torch.randn(3, 4)
    with torch.no_grad():
        with adapted(backbone.model, adapter, 0.7) as model:
            folded = model.layer(x)
        with adapted(backbone.model, adapter, 0.7, fold=False) as model:
            assert torch.allclose(model.layer(x), folded, atol=1e-5)
        backbone.model.layer.to(torch.bfloat16)
        with adapted(backbone.model, adapter, 0.7) as model:  # 16 bits: nothing is rounded into the weight
            model.layer(x.to(torch.bfloat16))
            assert model.layer.weight.dtype == torch.bfloat16
            assert torch.equal(model.layer.weight, before.to(torch.bfloat16))
    backbone = encoder()
    with adapted(backbone.model, adapter, 0.7):
        assert not torch.equal(backbone.model.layer.weight, before)
    assert torch.equal(backbone.model.layer.weight, before)


def test_of_equal_logits_the_earlier_class_comes_first() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0], [2.0, 2.0, 1.0], [2.0, 2.0, 1.0]])
    assert _place(logits, torch.tensor([0, 2, 0, 0, 1])).tolist() == [0, 1, 2, 0, 1]


def test_union_of_labels() -> None:
    texts, places = union_labels({"digits": ("one", "two"), "letters": ("a", "one")})
    assert texts == ("one", "two", "a")
    assert places == {"digits": (0, 1), "letters": (2, 0)}


def test_settings_of_one_direction_lie_together() -> None:
    merge = TriedMethod(name="ties", scales=(1.0, 2.0), options={"density": [0.1, 0.2], "mass": "sum"})
    found = settings_of(merge)
    assert [setting.label for setting in found] == [
        f"density={density},mass=sum,scale={scale}" for density in (0.1, 0.2) for scale in (1, 2)
    ]  # fmt: skip
    assert [setting.direction for setting in found] == [found[0], found[0], found[2], found[2]]
    learned = LearnedMethod(learn="tara-a", learning_rates=(0.1, 0.2), scales=(1.0, 3.0))
    assert [(s.learning_rate, s.scale) for s in settings_of(learned)] == [(0.1, 1), (0.1, 3), (0.2, 1), (0.2, 3)]
