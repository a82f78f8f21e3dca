"""KL of an adapted model from its base, against the plain formula on whole logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_fixtures import save_lora
from prefdelta.adapters.applied import applied
from prefdelta.core.models import LoadedModel
from prefdelta.training.data import Response, Row
from prefdelta.training.divergence import divergence_from_base
from prefdelta.training.head import Head, divergences
from tiny import tiny_model, tiny_tokenizer

ROWS = (
    Row((5, 6, 7), (Response((8, 9, 10, 11), (1, 1, 0, 1)),)),
    Row((12, 13), (Response((14, 15, 16, 17, 18, 19), (0, 1, 1, 1, 1, 1)),)),
)


@pytest.mark.parametrize("targets", [("q_proj", "down_proj"), ("v_proj", "lm_head")], ids=["body", "head"])
def test_equal_to_the_formula_also_where_the_head_is_adapted(tmp_path: Path, targets: tuple[str, ...]) -> None:
    model = tiny_model(0)
    loaded = LoadedModel(model, tiny_tokenizer(), thinking=False)
    save_lora(model, tmp_path / "a", 3, r=2, target_modules=list(targets))
    expected = {}
    for row in ROWS:
        ids = torch.tensor([[*row.prompt, *row.responses[0].ids]])
        with torch.no_grad():
            base = model(ids).logits[0].double().log_softmax(-1)
            with applied(loaded, tmp_path / "a", 2.0) as changed:
                moved = changed.model(ids).logits[0].double().log_softmax(-1)
        kl = (base.exp() * (base - moved)).sum(-1)
        places = [len(row.prompt) + place - 1 for place, own in enumerate(row.responses[0].own) if own]
        expected[row] = kl[places]
    found = divergence_from_base(loaded, ROWS, tmp_path / "a", 2.0)
    longest_first = torch.cat([expected[ROWS[0]], expected[ROWS[1]]])
    torch.testing.assert_close(found.double().sort().values, longest_first.sort().values, rtol=1e-4, atol=1e-6)
    assert float(found.min()) > 0
    assert not divergence_from_base(loaded, ROWS, tmp_path / "a", 0.0).any()


def test_chunks_and_softcaps_change_nothing_but_memory() -> None:
    one, other = torch.nn.Linear(6, 40, bias=False), torch.nn.Linear(6, 40)
    states, moved = torch.randn(7, 6), torch.randn(7, 6)
    whole = divergences(Head(one, 3.0, 7), Head(other, 3.0, 7), states, moved)
    parts = divergences(Head(one, 3.0, 2), Head(other, 3.0, 2), states, moved)
    torch.testing.assert_close(parts, whole)
    p = (3 * torch.tanh(one(states) / 3)).log_softmax(-1)
    q = (3 * torch.tanh(other(moved) / 3)).log_softmax(-1)
    torch.testing.assert_close(whole, torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1))
