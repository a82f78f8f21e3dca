"""Merged adapters in PEFT: the same function as the dense update, and PEFT's own exact merges as a second opinion."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from lora_fixtures import as_weight, dense_updates, logits, save_lora, tiny_gpt2, tiny_qwen, with_updates
from prefdelta.adapters import Adapter
from prefdelta.merging import get_method, merge

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]

BASIC = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
PATTERNS = {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 5}}
STACKS: dict[str, tuple[Callable[[], Any], list[dict[str, Any]]]] = {
    "plain": (tiny_qwen, [{"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}] * 3),
    "rslora-and-plain": (
        tiny_qwen,
        [
            {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
            {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"]},
        ],
    ),
    "patterns": (tiny_qwen, [{"r": 4, "target_modules": ["q_proj", "v_proj"], **PATTERNS}] * 2),
    "other-modules": (
        tiny_qwen,
        [{"r": 3, "target_modules": ["q_proj", "up_proj"]}, {"r": 3, "target_modules": ["q_proj", "v_proj"]}],
    ),
    "conv1d": (
        tiny_gpt2,
        [{"r": 3, "lora_alpha": 5, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}] * 3,
    ),
    "embedding": (tiny_gpt2, [{"r": 3, "target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}] * 2),
}


@pytest.mark.parametrize("method", ["average", "gam", "ties", "core-dare-ties", "tsv-m"])
@pytest.mark.parametrize("stack", STACKS)
def test_peft_gives_the_logits_of_the_dense_merge(stack: str, method: str, tmp_path: Path) -> None:
    make, configs = STACKS[stack]
    base = make()
    folders = [tmp_path / str(seed) for seed in range(len(configs))]
    for seed, (folder, config) in enumerate(zip(folders, configs, strict=True)):
        save_lora(base, folder, seed, size=0.1, **config)
    merge(folders, tmp_path / "out", method=method, scale=1.5)
    merged = Adapter.open(tmp_path / "out")
    dense = {
        name: as_weight(merged.load(name, torch.float64).dense(), base.get_submodule(name)) for name in merged.modules
    }
    expected = logits(with_updates(base, dense))
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "out").eval()
    torch.testing.assert_close(logits(loaded), expected, rtol=1e-4, atol=2e-5)
    assert float((expected - logits(base)).abs().max()) > 0.05
    # PEFT itself sees the same update in the same modules and no others.
    theirs = dense_updates(loaded)
    assert sorted(theirs) == sorted(dense)
    for name, update in theirs.items():
        torch.testing.assert_close(update.double(), dense[name], rtol=1e-5, atol=1e-6)


def load_all(base: Any, folders: list[Path]) -> PeftModel:
    model = PeftModel.from_pretrained(copy.deepcopy(base), folders[0], adapter_name="0")
    for index, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=str(index))
    return model


@pytest.mark.parametrize(("combination", "rank"), [("cat", None), ("svd", 3)])
def test_the_average_is_pefts_cat_and_svd(combination: str, rank: int | None, tmp_path: Path) -> None:
    base = tiny_qwen()
    folders = [tmp_path / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        save_lora(base, folder, seed, r=2 + seed, lora_alpha=7, target_modules=["q_proj", "down_proj"])
    weights = [0.5, 0.2, 0.3]
    model = load_all(base, folders)
    model.add_weighted_adapter(["0", "1", "2"], weights, "merged", combination_type=combination, svd_rank=rank)
    merge(folders, tmp_path / "out", method="average", weights=weights, rank=rank)
    mine = Adapter.open(tmp_path / "out")
    for name in mine.modules:
        theirs = model.get_submodule(f"base_model.model.{name}").get_delta_weight("merged")
        torch.testing.assert_close(mine.load(name).dense(), theirs, rtol=1e-4, atol=1e-5)


def test_an_rslora_adapter_comes_back_at_its_own_strength(tmp_path: Path) -> None:
    """PEFT's own weighted merge makes it √r too strong."""
    base = tiny_qwen()
    expected = save_lora(base, tmp_path / "a", 1, r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj"])
    merge([tmp_path / "a"], tmp_path / "out", method="average")
    for name, update in expected.items():
        torch.testing.assert_close(Adapter.open(tmp_path / "out").load(name).dense(), update, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_costs_rounding_only(dtype: str, tmp_path: Path) -> None:
    base = tiny_qwen()
    for seed in range(2):
        save_lora(base, tmp_path / str(seed), seed, size=1e-3, r=4, target_modules=["q_proj"])
    folders = [tmp_path / "0", tmp_path / "1"]
    merge(folders, tmp_path / "out", method="gam", dtype=dtype)
    for name in Adapter.open(tmp_path / "out").modules:
        exact = get_method("gam")([Adapter.open(folder).load(name, torch.float64) for folder in folders]).dense()
        rounded = Adapter.open(tmp_path / "out").load(name, torch.float64).dense()
        bound = {"bfloat16": 2.0**-7, "float16": 2.0**-10}[dtype]
        assert float((rounded - exact).norm() / exact.norm()) < bound
