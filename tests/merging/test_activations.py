"""RegMean end to end: inputs collected from a model, a merge that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lora_fixtures import random_update, tiny_qwen
from prefdelta.core.errors import PrefdeltaError
from prefdelta.merging import get_method
from prefdelta.merging.activations import collect_activations

MODULE = "model.layers.0.self_attn.q_proj"


def test_all_inputs_are_collected_where_there_is_room(tmp_path: Path) -> None:
    model = tiny_qwen()
    sequences = [[1, 2, 3, 4], [5, 6], []]
    counts = collect_activations(model, sequences, [MODULE], tmp_path / "x.safetensors", tokens=100)
    assert counts == {MODULE: 6}
    seen = []
    handle = model.get_submodule(MODULE).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with torch.no_grad():
        for ids in sequences[:2]:
            model(torch.tensor([ids]))
    handle.remove()
    torch.testing.assert_close(load_file(tmp_path / "x.safetensors")[MODULE], torch.cat(seen).detach())


def test_a_full_sample_is_a_reproducible_choice_of_rows(tmp_path: Path) -> None:
    model = tiny_qwen()
    sequences = [[i % 20 + 1, (3 * i) % 20 + 1, 7] for i in range(8)]
    everything = tmp_path / "all.safetensors"
    collect_activations(model, sequences, [MODULE], everything, tokens=1000)
    rows = load_file(everything)[MODULE]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        collect_activations(model, sequences, [MODULE], tmp_path / name, tokens=5, seed=seed)
    first, again, other = (load_file(tmp_path / name)[MODULE] for name in "abc")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (5, rows.shape[1])
    assert all(any(torch.allclose(row, candidate) for candidate in rows) for row in first)


def test_unknown_modules_and_empty_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="no module nowhere"):
        collect_activations(tiny_qwen(), [[1]], ["nowhere"], tmp_path / "x")
    with pytest.raises(PrefdeltaError, match="no tokens"):
        collect_activations(tiny_qwen(), [[]], [MODULE], tmp_path / "x")


def test_a_module_that_is_not_given_every_token_is_refused(tmp_path: Path) -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.expert = nn.Embedding(9, 4), nn.Linear(4, 4)

        def forward(self, ids: Tensor) -> Tensor:
            routed = ids[ids > 5]
            return self.expert(self.embedding(routed)) if len(routed) else self.embedding(ids)

    for texts in ([[6, 7], [1, 2]], [[6, 1]]):
        with pytest.raises(PrefdeltaError, match="module expert is not given every token"):
            collect_activations(Mixture(), texts, ["expert"], tmp_path / "x")


def test_regmean_reads_one_file_for_each_adapter(tmp_path: Path) -> None:
    deltas = [random_update(seed, (6, 5), 2) for seed in range(2)]
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    for name in ("a", "b"):
        save_file({"m": x}, tmp_path / name)
    files = [tmp_path / "a", tmp_path / "b"]
    merged = get_method("regmean")(deltas, module="m", options={"activations": files})
    mean = (deltas[0].dense() + deltas[1].dense()) / 2  # equal inputs: nobody's outputs matter more
    torch.testing.assert_close(merged.dense(), mean, rtol=1e-8, atol=1e-8)
    told = get_method("regmean").parse({"activations": files}).model_dump(mode="json")
    assert told["activations"] == ["a", "b"]
    with pytest.raises(PrefdeltaError, match="1 activation files were given for 2 adapters"):
        get_method("regmean")(deltas, module="m", options={"activations": files[:1]})
    with pytest.raises(PrefdeltaError, match="no activations of module other"):
        get_method("regmean")(deltas, module="other", options={"activations": files})
    with pytest.raises(PrefdeltaError, match=r"have shape \(12, 5\)"):
        get_method("regmean")([delta.T for delta in deltas], module="m", options={"activations": files})
    with pytest.raises(PrefdeltaError, match="cannot read the activations"):
        get_method("regmean")(deltas, module="m", options={"activations": [tmp_path / "none", files[0]]})
    with pytest.raises(PrefdeltaError, match="at least one weight that is not 0"):
        get_method("regmean")(deltas, weights=[0, 0], module="m", options={"activations": files})
