"""Every objective in a whole training: it learns, and one that was interrupted ends with the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from folders import contents
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Demonstration, Pair, Triple, read_rows, write_rows
from prefdelta.recipe import ModelRef
from prefdelta.training import OBJECTIVES
from prefdelta.training.objectives import Outcome
from training_runs import Stopped, flat, make_pairs, make_triples, metrics, settings, stop, train_here


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_interrupted_training_ends_with_the_same_bytes(student: ModelRef, tmp_path: Path, objective: str) -> None:
    """Stopped after step 3 of 4, it continues from the checkpoint of step 2; for WRPO with the alpha of step 2."""

    triples = len(OBJECTIVES[objective].responses) == 3
    examples = make_triples(7) if triples else make_pairs(7)
    training = settings(objective=objective, batch_size=2, lora={"dropout": 0.2})
    with pytest.raises(Stopped):
        train_here(student, examples, training, tmp_path / "stopped", progress=stop)
    assert len(metrics(tmp_path / "stopped")) == 2
    done: list[int] = []
    train_here(student, examples, training, tmp_path / "stopped", progress=lambda now, total: done.append(now))
    assert done == [3, 4]
    train_here(student, examples, training, tmp_path / "undisturbed")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "undisturbed")
    log = metrics(tmp_path / "stopped")
    if objective.startswith("wrpo") and objective != "wrpo-two-loss":
        assert [line["alpha"] for line in log] == pytest.approx([0.0, 0.025, 0.05, 0.075])
    assert {"accuracies/source", "lengths/target", "rewards/margins"} <= set(log[0]) or not triples


def test_an_objective_without_implicit_rewards_logs_none(
    student: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DPO that keeps its rewards to itself trains the same adapter."""
    dpo = OBJECTIVES.find("dpo")
    silent = replace(
        dpo, name="silent", function=lambda scores, options: Outcome(dpo.function(scores, options).loss, None)
    )
    monkeypatch.setitem(OBJECTIVES._entries, "silent", silent)  # a registry forgets nothing by itself
    pairs = make_pairs(7)
    for name in ("dpo", "silent"):
        train_here(student, pairs, settings(objective=name, batch_size=2), tmp_path / name)
    assert torch.equal(flat(tmp_path / "silent"), flat(tmp_path / "dpo"))
    for ours, theirs in zip(metrics(tmp_path / "silent"), metrics(tmp_path / "dpo"), strict=True):
        assert ours == {key: value for key, value in theirs.items() if not key.startswith("rewards/")}


def test_wrpo_without_the_source_is_dpo_on_the_same_rows_and_reference(student: ModelRef, tmp_path: Path) -> None:
    """So the control is trained from the same file, and the second training finds the reference of the first."""
    triples, cache = make_triples(6), tmp_path / "cache"
    shared = {"batch_size": 3, "micro_batch_size": 3}
    train_here(
        student, triples, settings(objective="wrpo", beta=0.5, alpha=0.0, **shared), tmp_path / "wrpo", cache=cache
    )
    train_here(student, triples, settings(objective="dpo", beta=0.5, **shared), tmp_path / "dpo", cache=cache)
    assert len(list(cache.iterdir())) == 1
    for one, other in zip(metrics(tmp_path / "wrpo"), metrics(tmp_path / "dpo"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["rewards/target"] == pytest.approx(other["rewards/chosen"], rel=1e-3, abs=1e-4)
    # The log-probability of the source has weight 0, but its padding changes the rounding of the others.
    torch.testing.assert_close(flat(tmp_path / "wrpo"), flat(tmp_path / "dpo"), rtol=0, atol=2e-4)


def test_sft_reads_rows_of_every_kind(student: ModelRef, tmp_path: Path) -> None:
    triples: list[Triple] = make_triples(6)
    pairs = [Pair(t.id, t.task, t.prompt, t.source, t.rejected) for t in triples]
    demonstrations = [Demonstration(t.id, t.task, t.prompt, t.source) for t in triples]
    for name, examples in (("triples", triples), ("pairs", pairs), ("demonstrations", demonstrations)):
        path = tmp_path / f"{name}.jsonl"
        write_rows(path, examples)
        assert read_rows(path, type(examples[0])) == examples
        # A row's length, by which a batch is sorted, is that of its longest response: one micro-batch for all.
        training = settings(objective="sft", batch_size=6, micro_batch_size=6, epochs=2)
        train_here(student, examples, training, tmp_path / name)  # type: ignore[arg-type]
    for name in ("pairs", "demonstrations"):
        torch.testing.assert_close(flat(tmp_path / name), flat(tmp_path / "triples"), rtol=0, atol=1e-4)


def test_rows_of_the_wrong_kind_are_refused(student: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match="'wrpo' learns from triples"):
        train_here(student, make_pairs(3), settings(objective="wrpo"), tmp_path)
    with pytest.raises(PrefdeltaError, match="several kinds"):
        train_here(student, [*make_pairs(3), *make_triples(3)], settings(objective="sft"), tmp_path)
