"""A whole training: files, an effect, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from folders import contents
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import load
from prefdelta.core.records import Pair
from prefdelta.recipe import ModelRef
from prefdelta.training import reference as reference_module
from prefdelta.training.data import collate, make_rows
from prefdelta.training.logprobs import token_logprobs
from tiny import tiny_tokenizer
from training_runs import flat, make_pairs, metrics, settings, train_here, weights

FILES = ["adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "training.json"]


def test_an_adapter_that_peft_loads_and_a_log_that_starts_at_ln_2(student: ModelRef, tmp_path: Path) -> None:
    pairs = make_pairs(10)
    steps: list[tuple[int, int]] = []
    report = train_here(
        student, pairs, settings(), tmp_path / "out", progress=lambda done, total: steps.append((done, total))
    )
    assert sorted(contents(tmp_path / "out")) == FILES
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []
    assert steps == [(1, 3), (2, 3), (3, 3)]
    log = metrics(tmp_path / "out")
    assert [line["step"] for line in log] == [1, 2, 3]
    assert log[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert set(log[0]) == {
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "logps/chosen",
        "logps/rejected",
        "lengths/chosen",
        "lengths/rejected",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
    }
    assert report.rows == 10
    assert report.trainable_parameters == sum(tensor.numel() for tensor in weights(tmp_path / "out").values())
    written = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert written["steps"] == 3
    assert written["last"]["loss"] == log[-1]["loss"]

    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    projections = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == projections == list(report.targets)
    assert config["base_model_name_or_path"] == student.path
    batch = collate(make_rows(pairs, tiny_tokenizer(), thinking=False, max_length=512).rows, positions=(0, 1))
    base = load(student).model
    with torch.no_grad():
        before = token_logprobs(base, batch["input_ids"], batch["own"])
        after = token_logprobs(PeftModel.from_pretrained(base, str(tmp_path / "out")), batch["input_ids"], batch["own"])
    assert float((after - before).abs().max()) > 1e-3


def test_training_prefers_the_chosen(student: ModelRef, tmp_path: Path) -> None:
    """Six pairs seen many times are learned: every one of them is ranked right."""
    training = settings(epochs=15, batch_size=6, micro_batch_size=6, learning_rate=3e-3)
    report = train_here(student, make_pairs(6), training, tmp_path)
    assert report.first["rewards/accuracies"] < 1
    assert report.last["rewards/accuracies"] == 1
    assert report.last["loss"] < 0.2


@pytest.mark.parametrize("objective", ["dpo", "orpo", "sft"])
def test_micro_batches_change_nothing(student: ModelRef, tmp_path: Path, objective: str) -> None:
    """Also the last, smaller batch: 11 pairs are batches of 8 and 3, in micro-batches of 3, 3, 2 and 3."""
    for micro in (8, 3):
        training = settings(batch_size=8, micro_batch_size=micro, objective=objective)
        train_here(student, make_pairs(11), training, tmp_path / str(micro))
    one, other = metrics(tmp_path / "8"), metrics(tmp_path / "3")
    assert len(one) == len(other) == 2
    for ours, theirs in zip(one, other, strict=True):
        for name in ("loss", "grad_norm", "logps/chosen"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
    # Adam's first steps are about the size of the learning rate whatever the gradient's.
    torch.testing.assert_close(flat(tmp_path / "8"), flat(tmp_path / "3"), rtol=0, atol=2e-4)


def test_full_scope_and_gradient_checkpointing_and_dropout_run(student: ModelRef, tmp_path: Path) -> None:
    plain = settings(objective="orpo", nll_scope="full")
    checkpointed = settings(objective="orpo", nll_scope="full", gradient_checkpointing=True)
    dropout = settings(objective="orpo", nll_scope="full", lora={"dropout": 0.3})
    for name, training in (("plain", plain), ("checkpointed", checkpointed), ("dropout", dropout)):
        train_here(student, make_pairs(8), training, tmp_path / name)
    torch.testing.assert_close(flat(tmp_path / "plain"), flat(tmp_path / "checkpointed"), rtol=0, atol=1e-6)
    assert float((flat(tmp_path / "plain") - flat(tmp_path / "dropout")).abs().max()) > 1e-4


def test_seeds_decide_what_they_should(student: ModelRef, tmp_path: Path) -> None:
    """With no learning to speak of, A is what was drawn: equal for equal ``init_seed`` and other pairs."""
    still = settings(learning_rate=1e-7)
    for name, count, seed, init_seed in (("a", 8, 1, 5), ("b", 12, 2, 5), ("c", 8, 1, 6)):
        train_here(student, make_pairs(count), still, tmp_path / name, seed=seed, init_seed=init_seed)
    drawn = {
        name: torch.cat([t.flatten() for key, t in sorted(weights(tmp_path / name).items()) if "lora_A" in key])
        for name in "abc"
    }
    torch.testing.assert_close(drawn["a"], drawn["b"], rtol=0, atol=1e-5)
    assert float((drawn["a"] - drawn["c"]).abs().max()) > 0.01


def test_reversed_pairs_start_with_the_opposite_gradient(student: ModelRef, tmp_path: Path) -> None:
    pairs = make_pairs(4)
    reversed_pairs = [Pair(p.id, p.task, p.prompt, chosen=p.rejected, rejected=p.chosen) for p in pairs]
    one_step = settings(learning_rate=1e-4)
    for name, each in (("forward", pairs), ("backward", reversed_pairs)):
        train_here(student, each, one_step, tmp_path / name)
    forward, backward = (
        torch.cat([t.flatten() for key, t in sorted(weights(tmp_path / name).items()) if "lora_B" in key])
        for name in ("forward", "backward")
    )
    assert float(forward.abs().max()) > 5e-5
    # Adam's first step is the gradient over its own size; it wavers where the gradient is lost in rounding.
    agree = (torch.sign(forward) == -torch.sign(backward)).float().mean()
    assert float(agree) > 0.98


def test_the_reference_is_computed_once_for_all_seeds(
    student: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, cache = make_pairs(8), tmp_path / "cache"
    train_here(student, pairs, settings(), tmp_path / "first", cache=cache)
    kept = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}

    def refuse(*_: object) -> None:
        raise AssertionError("the reference was computed again")

    monkeypatch.setattr(reference_module, "_score", refuse)
    train_here(student, pairs, settings(lora={"r": 2}, beta=0.7), tmp_path / "other", seed=8, init_seed=9, cache=cache)
    train_here(student, pairs, settings(), tmp_path / "again", cache=cache)
    assert kept == {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert contents(tmp_path / "first") == contents(tmp_path / "again")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_wrong_reference_is_found_before_the_first_step(student: ModelRef, tmp_path: Path, dtype: str) -> None:
    cache, ref = tmp_path / "cache", student.model_copy(update={"dtype": dtype})
    train_here(ref, make_pairs(8), settings(), tmp_path / "out", cache=cache)
    (file,) = cache.iterdir()
    values = load_file(file)["logps"] + 2 * torch.arange(len(load_file(file)["logps"]))
    checksum = torch.tensor(list(hashlib.sha256(values.numpy().tobytes()).digest()), dtype=torch.uint8)
    save_file({"logps": values, "sha256": checksum}, file)  # whole, but of something else
    with pytest.raises(PrefdeltaError, match="the reference does not belong to this base and data"):
        train_here(ref, make_pairs(8), settings(), tmp_path / "wrong", cache=cache)


def test_a_diverging_loss_stops(student: ModelRef, tmp_path: Path) -> None:
    hot = settings(learning_rate=1e30, epochs=3)
    with pytest.raises(PrefdeltaError, match=r"the loss is nan at step 2; lower training\.learning_rate"):
        train_here(student, make_pairs(8), hot, tmp_path)


def test_a_training_without_effect_is_refused(student: ModelRef, tmp_path: Path) -> None:
    """The only step of a training that is all warm-up has learning rate 0: told before weights are loaded."""
    tokenizer_alone = tmp_path / "student"
    tiny_tokenizer().save_pretrained(tokenizer_alone)
    for ref in (student, ModelRef(path=str(tokenizer_alone))):
        with pytest.raises(PrefdeltaError, match=r"1 optimiser step \(4 rows, batch_size 4.*learning rate 0"):
            train_here(ref, make_pairs(4), settings(warmup_ratio=0.1), tmp_path / "out")
        with pytest.raises(PrefdeltaError, match=r"none of 4 examples .* 4 with a prompt that fills max_length"):
            train_here(ref, make_pairs(4), settings(max_length=8), tmp_path / "out")


def test_held_out_pairs_that_the_student_cannot_read_are_refused_before_the_training(
    student: ModelRef, tmp_path: Path
) -> None:
    pair, *pairs = make_pairs(9)
    long = dataclasses.replace(pair, prompt=({"role": "user", "content": 2000 * "w"},))
    with pytest.raises(PrefdeltaError, match=r"the longest example has .* reads at most 1024"):
        train_here(student, pairs, settings(), tmp_path / "out", held_out=[pair, long])
    with pytest.raises(PrefdeltaError, match="held-out pairs: none of 1 examples can be trained on"):
        train_here(student, pairs, settings(max_length=1024), tmp_path / "out", held_out=[long])
    assert not (tmp_path / "out").exists()


def test_a_training_that_barely_moves_the_student_says_so(student: ModelRef, tmp_path: Path) -> None:
    still, moved = (
        train_here(student, make_pairs(8), settings(learning_rate=rate), tmp_path / str(rate)) for rate in (1e-8, 1e-2)
    )
    assert moved.warning is None
    assert still.moved < 1e-3 < moved.moved
    assert still.warning is not None
    assert "barely moved the student: 2 steps at 1e-08" in still.warning


def test_the_summary_of_a_training(student: ModelRef, tmp_path: Path) -> None:
    """Loss, accuracy, what was cut and what was left out."""
    pairs = make_pairs(8)
    wordy = dataclasses.replace(pairs[0], prompt=({"role": "user", "content": 200 * "word "},))
    report = train_here(student, [wordy, *pairs[1:]], settings(max_length=60), tmp_path)
    log = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert f"dpo on 7 rows in 2 steps: loss 0.6931 → {log[-1]['loss']:.4g}, accuracy in the last step" in report.summary
    assert report.truncated > 0
    assert f"; {report.truncated} responses were cut at max_length (60 tokens)" in report.summary
    assert report.summary.endswith(
        "1 of 8 examples were left out: 1 with a prompt that fills max_length (60 tokens) by itself."
    )


def test_a_target_that_is_not_there_is_named(student: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"training.lora.targets.*qq_proj"):
        train_here(student, make_pairs(4), settings(lora={"targets": ("qq_proj",)}), tmp_path)


def test_half_precision(student: ModelRef, tmp_path: Path) -> None:
    half = student.model_copy(update={"dtype": "bfloat16"})
    report = train_here(half, make_pairs(10), settings(), tmp_path)
    assert report.first["loss"] == pytest.approx(0.6931, abs=0.02)
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}
