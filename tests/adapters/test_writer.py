"""Writing adapters: what PEFT loads back, whole or not at all."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file

import prefdelta.adapters.writer as writer
from lora_fixtures import random_update
from prefdelta.adapters import Adapter, AdapterInfo, servable_rank, write_adapter
from prefdelta.adapters.storage import Storage
from prefdelta.core.errors import PrefdeltaError
from prefdelta.linalg.lowrank import LowRank

INFO = AdapterInfo(base_model="some/base", task_type="CAUSAL_LM")
UPDATES = {
    "model.layers.0.q_proj": random_update(1, (6, 5), 3),
    "model.layers.10.q_proj": random_update(2, (6, 5), 2),
    "model.layers.1.v_proj": random_update(3, (4, 5), 3),
    "model.layers.1.zero": LowRank.zero((4, 5)),
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    ranks = write_adapter(tmp_path / "out", UPDATES.items(), like=INFO, dtype=torch.float64)
    adapter = Adapter.open(tmp_path / "out")
    assert adapter.modules == tuple(sorted(UPDATES))
    assert adapter.base_model == "some/base"
    assert ranks == {name: max(update.rank, 1) for name, update in UPDATES.items()}
    for name, update in UPDATES.items():
        assert adapter.scaling(name) == 1
        assert adapter.rank(name) == ranks[name]
        torch.testing.assert_close(adapter.load(name, torch.float64).dense(), update.dense(), rtol=1e-12, atol=1e-12)


def test_the_file_is_one_that_safetensors_reads_and_the_configuration_one_that_peft_reads(tmp_path: Path) -> None:
    write_adapter(tmp_path / "out", UPDATES.items(), like=INFO, dtype=torch.bfloat16)
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(UPDATES)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    config = LoraConfig.from_pretrained(tmp_path / "out")
    assert config.r == config.lora_alpha == 3
    assert config.rank_pattern == config.alpha_pattern
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]


@pytest.mark.parametrize(("rank", "stored"), [(3, 3), (7, 7), ("servable", 8)])
def test_padding_to_one_rank_needs_no_patterns(rank: int | str, stored: int, tmp_path: Path) -> None:
    write_adapter(tmp_path / "out", UPDATES.items(), like=INFO, dtype=torch.float64, rank=rank)
    adapter = Adapter.open(tmp_path / "out")
    assert adapter.config["rank_pattern"] == {}
    for name, update in UPDATES.items():
        assert adapter.rank(name) == stored
        torch.testing.assert_close(adapter.load(name, torch.float64).dense(), update.dense(), rtol=1e-12, atol=1e-12)


def test_one_servable_rank_is_found_when_the_modules_need_several(tmp_path: Path) -> None:
    updates = {"model.a": random_update(0, (20, 18), 3), "model.b": random_update(1, (20, 18), 12)}
    ranks = write_adapter(tmp_path / "out", updates.items(), like=INFO, dtype=torch.float64, rank="servable")
    assert ranks == {"model.a": 16, "model.b": 16}
    write_adapter(tmp_path / "asked", updates.items(), like=INFO, dtype=torch.float64, rank=16)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "asked" / name).read_bytes()


def test_modules_that_come_one_at_a_time_give_the_same_bytes(tmp_path: Path) -> None:
    write_adapter(tmp_path / "collected", UPDATES.items(), like=INFO)
    stream = ((name, UPDATES[name]) for name in sorted(UPDATES))
    write_adapter(tmp_path / "streamed", stream, like=INFO, names=sorted(UPDATES))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "collected" / name).read_bytes() == (tmp_path / "streamed" / name).read_bytes()
    with pytest.raises(ValueError, match="not those that were announced"):
        write_adapter(tmp_path / "short", list(UPDATES.items())[:1], like=INFO, names=sorted(UPDATES))


def test_a_pattern_does_not_catch_a_module_with_the_same_tail(tmp_path: Path) -> None:
    updates = {
        "q": random_update(0, (4, 4), 2),
        "other.q": random_update(1, (4, 4), 3),
        "otherxq": random_update(2, (4, 4), 2),
        "b.otherxq": random_update(3, (4, 4), 4),
        "c": random_update(4, (4, 4), 1),
        "d": random_update(5, (4, 4), 2),
    }
    write_adapter(tmp_path / "out", updates.items(), like=INFO)
    adapter = Adapter.open(tmp_path / "out")
    # A plain name is all that every version of PEFT finds; where it catches another module (its dot matches any
    # character), both have one rank.
    assert adapter.config["rank_pattern"] == adapter.config["alpha_pattern"] == {"c": 1, "d": 2}
    assert [adapter.rank(name) for name in updates] == [4, 4, 4, 4, 1, 2]
    for name, update in updates.items():
        expected = update.dense().to(torch.float32)
        torch.testing.assert_close(adapter.load(name).dense(), expected, rtol=1e-5, atol=1e-6)


def test_servable_ranks() -> None:
    assert [servable_rank(rank) for rank in (1, 8, 9, 64, 65, 300, 512)] == [8, 8, 16, 64, 128, 320, 512]
    with pytest.raises(PrefdeltaError, match="rank 513 exceeds 512"):
        servable_rank(513)


def test_the_order_of_the_modules_does_not_change_a_byte(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", UPDATES.items(), like=INFO)
    write_adapter(tmp_path / "b", reversed(list(UPDATES.items())), like=INFO)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_existing_folder_is_kept_unless_overwriting_is_allowed(tmp_path: Path) -> None:
    write_adapter(tmp_path / "out", UPDATES.items(), like=INFO)
    before = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    fewer = list(UPDATES.items())[:1]
    with pytest.raises(PrefdeltaError, match="exists and is not empty"):
        write_adapter(tmp_path / "out", fewer, like=INFO)
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == before
    write_adapter(tmp_path / "out", fewer, like=INFO, overwrite=True)
    assert Adapter.open(tmp_path / "out").modules == (fewer[0][0],)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_adapter(tmp_path / "out", UPDATES.items(), like=INFO)
    (tmp_path / "file").write_text("x")
    with pytest.raises(PrefdeltaError, match="is a file"):
        write_adapter(tmp_path / "file", UPDATES.items(), like=INFO)


def interrupted() -> Iterator[tuple[str, LowRank]]:
    yield "model.q", random_update(0, (4, 4), 2)
    raise KeyboardInterrupt


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_adapter(tmp_path / "out", interrupted(), like=INFO)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_adapter_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(tmp_path / "out", UPDATES.items(), like=INFO)
    before = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "tensor_bytes", full)
    with pytest.raises(PrefdeltaError, match="No space left on device"):
        write_adapter(tmp_path / "out", UPDATES.items(), like=INFO, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == before


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    update = random_update(0, (4, 4), 2)
    out = tmp_path / "out"
    with pytest.raises(PrefdeltaError, match="no modules"):
        write_adapter(out, [], like=INFO)
    with pytest.raises(PrefdeltaError, match="comes twice"):
        write_adapter(out, [("q", update), ("q", update)], like=INFO)
    with pytest.raises(PrefdeltaError, match="more than the asked rank 1"):
        write_adapter(out, [("q", update)], like=INFO, rank=1)
    with pytest.raises(PrefdeltaError, match=r"values that torch\.float16 cannot hold"):
        write_adapter(out, [("q", update.scaled(1e6))], like=INFO, dtype=torch.float16)
    with pytest.raises(PrefdeltaError, match="stored as float64, float32"):
        write_adapter(out, [("q", update)], like=INFO, dtype=torch.int8)
    assert list(tmp_path.iterdir()) == []


def test_embeddings_get_the_names_peft_gives_them(tmp_path: Path) -> None:
    info = AdapterInfo(storage={"wte": Storage(embedding=True)})
    write_adapter(tmp_path / "out", [("wte", random_update(0, (4, 9), 2))], like=info)
    assert sorted(load_file(tmp_path / "out" / "adapter_model.safetensors")) == [
        "base_model.model.wte.lora_embedding_A",
        "base_model.model.wte.lora_embedding_B",
    ]
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"] == ["wte"]
    assert Adapter.open(tmp_path / "out").info == info


def old_peft_key(keys: list[str], module: str) -> str:
    """How PEFT 0.7 to 0.14 finds a module's pattern."""
    return next((key for key in keys if re.match(rf".*\.{key}$", module)), module)


def test_ranks_are_found_by_old_and_new_rules_of_peft(tmp_path: Path) -> None:
    updates = {f"model.layers.{n}.self_attn.q_proj": random_update(n, (4, 4), 1 + n % 4) for n in range(12)}
    updates["lm_head"] = random_update(20, (4, 4), 3)
    write_adapter(tmp_path / "out", updates.items(), like=INFO)
    adapter = Adapter.open(tmp_path / "out")
    patterns = adapter.config["rank_pattern"]
    for module in updates:
        stored = adapter.rank(module)
        assert patterns.get(old_peft_key(list(patterns), module), adapter.config["r"]) == stored
        assert patterns.get(get_pattern_key(list(patterns), module), adapter.config["r"]) == stored
    # PEFT 0.7 refuses keys that it does not know.
    assert not adapter.config.keys() & {"use_dora", "use_rslora"}
