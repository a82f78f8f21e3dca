"""Reference log-probabilities: right, cached by content, and shared."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from prefdelta.recipe import Lora, ModelRef
from prefdelta.training import reference
from prefdelta.training.data import Row, collate
from prefdelta.training.logprobs import CausalLM, token_logprobs
from prefdelta.training.lora import attach
from prefdelta.training.reference import reference_logprobs
from tiny import tiny_model


def test_equal_to_a_direct_computation_whatever_the_batches(
    rows: tuple[Row, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = collate(rows, positions=(0, 1))
    with torch.no_grad():
        direct = token_logprobs(tiny_model(0), batch["input_ids"], batch["own"]).sum(dim=1).view(2, -1)
    for budget in (1, 300, 10**6):
        monkeypatch.setattr(reference, "_TOKENS_PER_BATCH", budget)
        found = reference_logprobs(tiny_model(0), rows, cache=None, fingerprint="f")
        torch.testing.assert_close(found, direct, rtol=1e-5, atol=1e-3)


def test_a_hit_reads_the_same_numbers_without_the_model(rows: tuple[Row, ...], tmp_path: Path) -> None:
    first = reference_logprobs(tiny_model(0), rows, cache=tmp_path, fingerprint="f")
    # Another model would give other numbers: equal ones come from the file.
    assert torch.equal(reference_logprobs(tiny_model(1), rows, cache=tmp_path, fingerprint="f"), first)
    assert len(list(tmp_path.iterdir())) == 1
    other = reference_logprobs(tiny_model(1), rows, cache=tmp_path, fingerprint="g")
    assert float((other - first).abs().min()) > 1e-3
    assert len(list(tmp_path.iterdir())) == 2


def test_order_and_labels_share_an_entry_and_other_tokens_do_not(rows: tuple[Row, ...], tmp_path: Path) -> None:
    first = reference_logprobs(tiny_model(0), rows, cache=tmp_path, fingerprint="f")
    swapped = [dataclasses.replace(row, responses=row.responses[::-1]) for row in reversed(rows)]
    assert torch.equal(reference_logprobs(tiny_model(0), swapped, cache=tmp_path, fingerprint="f"), first.flip(0, 1))
    assert len(list(tmp_path.iterdir())) == 1
    reference_logprobs(tiny_model(0), rows[1:], cache=tmp_path, fingerprint="f")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fresh_adapter_computes_what_the_base_does(rows: tuple[Row, ...]) -> None:
    model = attach(tiny_model(0), Lora(r=4, alpha=8), ModelRef(path="tiny"), init_seed=3)
    assert torch.equal(
        reference_logprobs(model, rows, cache=None, fingerprint="f"),
        reference_logprobs(tiny_model(0), rows, cache=None, fingerprint="f"),
    )


@pytest.mark.parametrize("place", [3, -1, -40, -70])
def test_a_damaged_file_is_computed_anew(rows: tuple[Row, ...], tmp_path: Path, place: int) -> None:
    values = reference_logprobs(tiny_model(0), rows, cache=tmp_path, fingerprint="f")
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    flipped = bytearray(written)
    flipped[place] ^= 1
    for damaged in (bytes(flipped), written[:20], b""):
        file.write_bytes(damaged)
        assert torch.equal(reference_logprobs(tiny_model(0), rows, cache=tmp_path, fingerprint="f"), values)
        assert file.read_bytes() == written


def test_two_trainings_may_write_the_same_file_at_once(
    rows: tuple[Row, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads stand for two machines, on which processes can have one number: both have written, then both move."""
    both, replace = Barrier(2, timeout=60), os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (both.wait(), replace(*paths)))

    def score(model: CausalLM) -> torch.Tensor:
        return reference_logprobs(model, rows, cache=tmp_path, fingerprint="f")

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(score, [tiny_model(0), tiny_model(0)])
    assert torch.equal(one, other)
    assert len(list(tmp_path.iterdir())) == 1
