"""Where coefficients begin: at the constant with the least loss, and nowhere else changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prefdelta.merging.learned.data import Rows
from prefdelta.merging.learned.start import calibrated_start
from prefdelta.merging.learned.tasks import Task
from prefdelta.recipe.learning import LanguageLearning, Learning


@pytest.mark.parametrize(("best", "lowest", "highest"), [(2.2, 1.8, 2.7), (0.4, 0.33, 0.5), (12.0, 8.0, 16.0)])
def test_the_start_is_near_the_constant_with_the_least_loss(best: float, lowest: float, highest: float) -> None:
    coefficients = torch.full((3,), 0.4)

    def objective(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (coefficients.mean() / best).log().square() + 0 * batch["x"]

    rows = [float(number) for number in range(8)]
    tasks = [
        Task(name, Rows(rows, lambda part: {"x": torch.tensor(part)}, batch_size=4), objective, None) for name in "ab"
    ]
    anchors = {"a": 0.0, "b": 0.0}
    found = calibrated_start(nn.Identity(), coefficients, tasks, anchors, Learning(scalarisation="linear"), seed=0)
    assert lowest <= found <= highest
    assert coefficients.tolist() == pytest.approx([0.4] * 3)


def test_language_models_look_for_their_start_and_others_begin_at_the_papers() -> None:
    assert LanguageLearning().start is None
    assert Learning().start == 0.4
