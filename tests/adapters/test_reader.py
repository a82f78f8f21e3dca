"""Reading adapters that PEFT saved: the same update that PEFT computes, or one clear sentence why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

from lora_fixtures import as_weight, save_lora, tiny_gpt2, tiny_qwen
from prefdelta.adapters import Adapter
from prefdelta.adapters.config import LayerSettings
from prefdelta.core.errors import PrefdeltaError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Edit = Callable[[Path], None]

VARIANTS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "plain": (tiny_qwen, {"r": 4, "lora_alpha": 12, "target_modules": "all-linear"}),
    "rslora": (tiny_qwen, {"r": 4, "lora_alpha": 12, "use_rslora": True, "target_modules": ["q_proj", "up_proj"]}),
    "patterns": (
        tiny_qwen,
        {
            "r": 4,
            "lora_alpha": 12,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"v_proj": 2, r"^model.layers.1.*\.q_proj": 6},
            "alpha_pattern": {"layers.0.self_attn.q_proj": 5, "v_proj": 7.5},
        },
    ),
    "rslora-patterns": (
        tiny_qwen,
        {"r": 4, "use_rslora": True, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}},
    ),
    "conv1d": (tiny_gpt2, {"r": 3, "lora_alpha": 5, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "embedding": (tiny_qwen, {"r": 4, "lora_alpha": 6, "target_modules": ["embed_tokens", "k_proj"]}),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_the_update_is_the_one_peft_computes(variant: str, tmp_path: Path) -> None:
    make, config = VARIANTS[variant]
    base = make()
    expected = save_lora(base, tmp_path, seed=1, **config)
    adapter = Adapter.open(tmp_path)
    assert adapter.modules == tuple(sorted(expected))
    assert adapter.extra == ()
    for module in adapter.modules:
        update = adapter.load(module, torch.float64)
        assert update.shape == adapter.shape(module)
        assert update.rank == adapter.rank(module)
        mine = as_weight(update.dense(), base.get_submodule(module))
        torch.testing.assert_close(mine, expected[module].double(), rtol=1e-5, atol=1e-6)


def test_sharded_weights_read_the_same(tmp_path: Path) -> None:
    save_lora(tiny_qwen(), tmp_path / "a", seed=1, r=2, target_modules=["q_proj", "v_proj"])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shard(tmp_path / "b")
    first, second = Adapter.open(tmp_path / "a"), Adapter.open(tmp_path / "b")
    assert first.modules == second.modules
    for module in first.modules:
        assert torch.equal(first.load(module).dense(), second.load(module).dense())
    assert len({first.fingerprint, second.fingerprint}) == 2


def test_pickled_weights_read_the_same(tmp_path: Path) -> None:
    save_lora(tiny_qwen(), tmp_path / "a", seed=1, r=2, target_modules=["q_proj"])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    tensors = load_file(tmp_path / "b" / WEIGHTS)
    (tmp_path / "b" / WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "b" / "adapter_model.bin")
    first, second = Adapter.open(tmp_path / "a"), Adapter.open(tmp_path / "b")
    assert first.modules == second.modules
    for module in first.modules:
        assert torch.equal(first.load(module).dense(), second.load(module).dense())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_scaling_is_not_rounded_to_the_stored_type(dtype: torch.dtype, tmp_path: Path) -> None:
    save_lora(tiny_qwen(), tmp_path, seed=1, r=3, lora_alpha=10, target_modules=["q_proj"])
    stored = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file(stored, tmp_path / WEIGHTS)
    adapter = Adapter.open(tmp_path)
    assert adapter.dtype == dtype
    module = adapter.modules[0]
    a, b = (stored[f"base_model.model.{module}.lora_{factor}.weight"].double() for factor in "AB")
    torch.testing.assert_close(adapter.load(module, torch.float64).dense(), 10 / 3 * b @ a, rtol=1e-12, atol=1e-12)


def test_loading_does_not_share_memory_with_the_source(tmp_path: Path) -> None:
    save_lora(tiny_qwen(), tmp_path, seed=1, r=2, target_modules=["q_proj"])
    adapter = Adapter.open(tmp_path)
    first = adapter.load(adapter.modules[0])
    first.A.zero_()
    assert adapter.load(adapter.modules[0]).A.norm() > 0


@pytest.mark.parametrize(
    "module", ["model.layers.1.q", "model.layers.11.q", "xmodel.layers.1.q", "q", "layers.1.qq", "model.layers.1.q.v"]
)
def test_patterns_match_as_pefts_do(module: str) -> None:
    pattern = {"layers.1.q": 2, "^model": 3, r"layers\.\d+\.q": 5, "q": 7, ".*v": 11}
    config = {"r": 13, "lora_alpha": 1, "rank_pattern": pattern, "alpha_pattern": pattern, "target_modules": ["q"]}
    expected = pattern.get(get_pattern_key(list(pattern), module), 13)
    settings = LayerSettings(config, Path("adapter_config.json"))
    assert settings.rank(module) == expected
    if expected != 13:
        assert settings.scaling(module) == 1


def test_the_fingerprint_follows_weights_and_configuration(tmp_path: Path) -> None:
    save_lora(tiny_qwen(), tmp_path, seed=1, r=2, target_modules=["q_proj"])
    first = Adapter.open(tmp_path).fingerprint
    assert Adapter.open(tmp_path).fingerprint == first
    edit_config(lora_alpha=9)(tmp_path)
    second = Adapter.open(tmp_path).fingerprint
    edit_tensors(lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()})(tmp_path)
    assert len({first, second, Adapter.open(tmp_path).fingerprint}) == 3


def edit_config(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**config, **changes}))

    return edit


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Edit:
    def edit(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, folder / WEIGHTS)

    return edit


def _write(name: str, content: bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(content) and None


def _truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def _only_bin(content: object) -> Edit:
    def edit(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        torch.save(content, folder / "adapter_model.bin")

    return edit


class Payload:
    """What a malicious pickle would run."""


INDEX = "adapter_model.safetensors.index.json"


def shard(folder: Path, *, missing: bool = False, **places: str) -> None:
    """Spread an adapter over two files, as transformers spreads models; ``places`` are changes to the index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"adapter_model-0000{number}-of-00002.safetensors"
        weight_map |= dict.fromkeys(part, file)
        if not (missing and number == 2):
            save_file({name: tensors[name] for name in part}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map | places}))


def _index(text: str) -> Edit:
    def edit(folder: Path) -> None:
        shard(folder)
        (folder / INDEX).write_text(text)

    return edit


Q = "base_model.model.model.layers.0.self_attn.q_proj"
MALFORMED: dict[str, tuple[Edit, str]] = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "has neither adapter_model.safetensors nor"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "has no adapter_config.json"),
    "bad json": (_write(CONFIG, b'{"r": 2,'), "adapter_config.json is not valid JSON"),
    "binary config": (_write(CONFIG, b"\xff\xfe\x00"), "adapter_config.json is not valid JSON"),
    "deep json": (_write(CONFIG, b"[" * 100_000), "adapter_config.json is not valid JSON"),
    "json list": (_write(CONFIG, b"[]"), "holds no JSON object"),
    "lfs pointer": (_write(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"),
    "truncated": (_truncate, "is damaged or incomplete"),
    "empty weights": (_write(WEIGHTS, b""), "is damaged or incomplete"),
    "garbage": (_write(WEIGHTS, b"\x08" + bytes(40)), "is damaged or incomplete"),
    "empty index": (_index("{}"), "is no index of sharded weights"),
    "index of nothing": (_index('{"weight_map": []}'), "is no index of sharded weights"),
    "missing shard": (lambda folder: shard(folder, missing=True), "00002-of-00002.safetensors, which is not there"),
    "shard elsewhere": (lambda folder: shard(folder, x="../weights.safetensors"), "no name of a shard beside it"),
    "wrong index": (lambda folder: shard(folder, x="adapter_model-00001-of-00002.safetensors"), "disagree about where"),
    "other peft type": (edit_config(peft_type="LOHA"), "peft_type is 'LOHA'"),
    "dora": (edit_config(use_dora=True), "use_dora is set"),
    "lora bias": (edit_config(lora_bias=True), "lora_bias is set"),
    "parameters a word": (edit_config(target_parameters="experts.up"), "target_parameters must be a list"),
    "parameters with patterns": (
        edit_config(target_parameters=["experts.up"], rank_pattern={"q_proj": 2}),
        "stands beside rank_pattern",
    ),
    "activated": (edit_config(alora_invocation_tokens=[1, 2]), "alora_invocation_tokens is set"),
    "pissa": (edit_config(init_lora_weights="pissa_niter_4"), "also changes the base weights"),
    "rank nought": (edit_config(r=0), "r must be a positive whole number"),
    "rank a word": (edit_config(r="8"), "r must be a positive whole number"),
    "no alpha": (edit_config(lora_alpha=None), "lora_alpha must be a number"),
    "infinite alpha": (edit_config(lora_alpha=float("inf")), "lora_alpha must be a number"),
    "huge alpha": (edit_config(lora_alpha=10**400), "lora_alpha must be a number"),
    "rslora a word": (edit_config(use_rslora="false"), "use_rslora must be true or false"),
    "base a list": (edit_config(base_model_name_or_path=["a"]), "base_model_name_or_path must be text"),
    "task an object": (edit_config(task_type={}), "task_type must be text"),
    "bad pattern": (edit_config(rank_pattern={"(": 2}), "is no regular expression"),
    "bad pattern value": (edit_config(rank_pattern={"q": 0}), "gives 'q' the value 0"),
    "pattern a list": (edit_config(alpha_pattern=["q"]), "must be an object"),
    "other rank": (edit_config(r=4), "stored with rank 2, but adapter_config.json gives it rank 4"),
    "missing half": (
        edit_tensors(lambda tensors: {name: value for name, value in tensors.items() if name != f"{Q}.lora_B.weight"}),
        "q_proj has lora_A only",
    ),
    "ranks differ": (
        edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_B.weight": torch.zeros(32, 3)}),
        "whose ranks differ",
    ),
    "ungathered shards": (
        edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_A.weight": torch.zeros(0)}),
        "saved without being gathered",
    ),
    "grouped convolution": (
        edit_tensors(
            lambda tensors: {
                **tensors,
                f"{Q}.lora_A.weight": torch.zeros(2, 4, 3, 3),
                f"{Q}.lora_B.weight": torch.zeros(8, 1, 1, 1),
            }
        ),
        "a grouped convolution has another update",
    ),
    "three sides": (
        edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_B.weight": torch.zeros(8, 2, 3)}),
        "which no layer has",
    ),
    "integers": (
        edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_A.weight": torch.zeros(2, 32, dtype=torch.int8)}),
        "is not stored as float64",
    ),
    "magnitudes": (
        edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_magnitude_vector": torch.zeros(32)}),
        "a length that DoRA learns",
    ),
    "no factors": (edit_tensors(lambda tensors: {"score.weight": torch.zeros(2, 2)}), "holds no LoRA factors"),
    "other prefix": (
        edit_tensors(lambda tensors: {name.removeprefix("base_model."): value for name, value in tensors.items()}),
        "without PEFT's prefix 'base_model.model.'",
    ),
    "path in a name": (
        edit_tensors(lambda tensors: {name.replace("layers", "../../etc"): value for name, value in tensors.items()}),
        "is no module name",
    ),
    "pickled code": (_only_bin({"x": Payload()}), "is damaged or holds more than tensors"),
    "pickled list": (_only_bin([torch.zeros(1)]), "holds no dictionary of tensors"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    save_lora(tiny_qwen(), folder, seed=1, r=2, target_modules=["q_proj"])
    return folder


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_adapters_are_refused_in_one_sentence(case: str, good: Path, tmp_path: Path) -> None:
    edit, message = MALFORMED[case]
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    edit(folder)
    with pytest.raises(PrefdeltaError, match=message) as caught:
        Adapter.open(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_when_loaded(value: float, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    edit_tensors(lambda tensors: {**tensors, f"{Q}.lora_A.weight": torch.full((2, 32), value)})(folder)
    adapter = Adapter.open(folder)
    with pytest.raises(PrefdeltaError, match=r"factor A of module model\.layers\.0\.self_attn\.q_proj holds NaN"):
        adapter.load("model.layers.0.self_attn.q_proj")


def test_what_is_not_there_is_named(good: Path, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="no adapter folder at"):
        Adapter.open(tmp_path / "nowhere")
    with pytest.raises(PrefdeltaError, match="does not adapt module lm_head"):
        Adapter.open(good).load("lm_head")


def test_trained_heads_are_listed(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(good, folder)
    edit_tensors(lambda tensors: {**tensors, "base_model.model.score.weight": torch.zeros(2, 32)})(folder)
    assert Adapter.open(folder).extra == ("base_model.model.score.weight",)
