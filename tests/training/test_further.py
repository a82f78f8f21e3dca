"""Training an adapter further, joint pairs, a base in 4 bits, number formats, and the trackers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import load, load_weights
from prefdelta.recipe import ModelRef
from prefdelta.training import joint_pairs
from prefdelta.training.lora import attach, attach_trained
from tiny import tiny_model, tiny_tokenizer
from training_runs import Stopped, make_pairs, metrics, settings, stop, train_here

QLORA = importlib.util.find_spec("bitsandbytes") is not None
TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


def _report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))


def test_an_adapter_is_trained_further_from_where_it_stands(student: ModelRef, tmp_path: Path) -> None:
    """The reference is the student with the adapter: the loss starts at ln 2, and the weights where they were."""
    training, cache = settings(learning_rate=3e-3), tmp_path / "cache"
    train_here(student, make_pairs(8), training, tmp_path / "first", cache=cache)
    still = training.model_copy(update={"learning_rate": 1e-6})
    first = tmp_path / "first"
    more = {"adapter": first, "cache": cache}
    # A training that hardly moves ends with the weights it started from.
    train_here(student, make_pairs(8, seed=1), still, tmp_path / "still", **more)
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first, tmp_path / "still"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-5)
    train_here(student, make_pairs(8, seed=1), training, tmp_path / "second", **more)
    assert metrics(tmp_path / "second")[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert _report(tmp_path / "second")["adapter_fingerprint"] == _report(tmp_path / "still")["adapter_fingerprint"]
    assert _report(first)["adapter_fingerprint"] is None
    assert len(list(cache.iterdir())) == 2  # of the student, and of the student with the adapter
    assert (
        max(
            float((load_file(tmp_path / "second" / "adapter_model.safetensors")[n] - t).abs().max())
            for n, t in before.items()
        )
        > 1e-3
    )


def test_a_further_training_that_was_stopped_ends_with_the_same_bytes(student: ModelRef, tmp_path: Path) -> None:
    training = settings(batch_size=2, lora={"dropout": 0.2})
    train_here(student, make_pairs(4), training, tmp_path / "first")
    more = {"adapter": tmp_path / "first"}
    with pytest.raises(Stopped):
        train_here(student, make_pairs(8, seed=1), training, tmp_path / "a", progress=stop, **more)
    for name in ("a", "b"):
        train_here(student, make_pairs(8, seed=1), training, tmp_path / name, **more)
    for name in ("adapter_model.safetensors", "metrics.jsonl", "training.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_adapter_of_another_shape_or_base_is_refused(student: ModelRef, tmp_path: Path) -> None:
    train_here(student, make_pairs(4), settings(), tmp_path / "first")
    more = {"adapter": tmp_path / "first", "folder": tmp_path / "second"}
    with pytest.raises(PrefdeltaError, match=r"has r 4; set training\.lora\.r=4"):
        train_here(student, make_pairs(4), settings(lora={"r": 8}), **more)
    with pytest.raises(PrefdeltaError, match=r"has alpha 8; set training\.lora\.alpha=8"):
        train_here(student, make_pairs(4), settings(lora={"alpha": 16.0}), **more)
    with pytest.raises(PrefdeltaError, match="no adapter folder at"):
        train_here(student, make_pairs(4), settings(), **{**more, "adapter": tmp_path / "nowhere"})
    weights = load_file(tmp_path / "first" / "adapter_model.safetensors")
    save_file(
        {name: tensor[..., :3].contiguous() for name, tensor in weights.items()},
        tmp_path / "first/adapter_model.safetensors",
    )
    with pytest.raises(PrefdeltaError, match="does not fit"):
        train_here(student, make_pairs(4), settings(), **more)


def test_a_half_precision_base_has_fp32_adapters_and_stays_as_it_is(student: ModelRef, tmp_path: Path) -> None:
    half = student.model_copy(update={"dtype": "bfloat16"})
    train_here(half, make_pairs(4), settings(), tmp_path / "a")
    for model in (
        attach(load(half).model, settings().lora, half, init_seed=0),
        attach_trained(load(half).model, tmp_path / "a", settings().lora, half),
    ):
        trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
        frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
        assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})


def test_joint_pairs_are_all_pairs_with_ids_of_their_own() -> None:
    sets = {"a": make_pairs(3), "b": make_pairs(4, seed=1)}
    union = joint_pairs(sets)
    assert [pair.id for pair in union] == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2", "b/3"]
    assert [pair.chosen for pair in union] == [pair.chosen for pairs in sets.values() for pair in pairs]


@pytest.mark.skipif(not QLORA, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("hidden", [32, 128], ids=["narrower than a block", "two blocks wide"])
@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_a_base_in_four_bits(tmp_path: Path, objective: str, hidden: int) -> None:
    """It starts at ln 2 with itself as the reference, reloads, and shares no cache entry with the base in full."""
    student = _student(tmp_path, hidden)
    cache = tmp_path / "cache"
    training = settings(objective=objective, quantization="nf4")
    train_here(student, make_pairs(6), training, tmp_path / "four", cache=cache)
    train_here(student, make_pairs(6), settings(objective=objective), tmp_path / "full", cache=cache)
    four, full = metrics(tmp_path / "four")[0], metrics(tmp_path / "full")[0]
    assert four["logps/chosen"] != full["logps/chosen"]
    assert four["logps/chosen"] == pytest.approx(full["logps/chosen"], rel=0.2)
    if objective == "dpo":
        assert four["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert len(list(cache.iterdir())) == 2


@pytest.mark.skipif(not QLORA, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("hidden", [32, 128])
def test_four_bits_compute_the_same_with_and_without_gradients(tmp_path: Path, hidden: int) -> None:
    """Whatever kernels the processor has, the policy sees the weights that the reference saw."""
    model = load_weights(_student(tmp_path, hidden), quantization="nf4")
    ids = torch.arange(12).unsqueeze(0)
    with torch.no_grad():
        reference = model(ids).logits
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    torch.testing.assert_close(model(inputs_embeds=embedded).logits, reference, rtol=0, atol=1e-5)


def _student(folder: Path, hidden: int) -> ModelRef:
    tiny_model(0, hidden=hidden).save_pretrained(folder / "student")
    tiny_tokenizer().save_pretrained(folder / "student")
    return ModelRef(path=str(folder / "student"))


@pytest.mark.skipif(QLORA, reason="bitsandbytes is installed")
def test_without_bitsandbytes_four_bits_are_refused(student: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"prefdelta\[qlora\]"):
        train_here(student, make_pairs(4), settings(quantization="nf4"), tmp_path)


@pytest.mark.skipif(TENSORBOARD, reason="tensorboard is installed")
def test_a_tracker_that_is_not_installed_is_named(student: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"pip install 'prefdelta\[tensorboard\]'"):
        train_here(student, make_pairs(4), settings(tracker="tensorboard"), tmp_path)


@pytest.mark.skipif(not TENSORBOARD, reason="tensorboard is not installed")
def test_tensorboard_gets_the_steps_and_the_artifact_stays_free_of_times(
    student: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    train_here(student, make_pairs(8), settings(tracker="tensorboard"), tmp_path / ".a.partial")
    train_here(student, make_pairs(8), settings(), tmp_path / "b")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "a")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([line["loss"] for line in metrics(tmp_path / "b")])
    for name in ("adapter_model.safetensors", "metrics.jsonl", "training.json"):
        assert (tmp_path / ".a.partial" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
