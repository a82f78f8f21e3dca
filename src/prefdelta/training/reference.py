"""Log-probabilities of the responses under the reference, computed once and shared.

The reference is the model that the training starts from: the base without any adapter, or with the one that is trained
further. Its numbers depend on these weights and on the token sequences only (which is: the data, the chat template and
``max_length``), so one cache entry serves every seed, rank, initialisation and objective, a pair set with its labels
shuffled or reversed, and for triples both WRPO and the objectives that look at two of the three responses.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from prefdelta.core.records import digest
from prefdelta.training.data import Response, Row, collate, token_digest
from prefdelta.training.logprobs import CausalLM, token_logprobs
from prefdelta.training.parallel import Processes

Sequence_ = tuple[tuple[int, ...], Response]  # prompt, response

Progress = Callable[[int, int], None]

_TOKENS_PER_BATCH = 16384  # of a forward pass, padding included


def reference_logprobs(
    model: CausalLM,
    rows: Sequence[Row],
    *,
    cache: Path | None,
    fingerprint: str,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Summed log-probabilities of every response's own tokens; ``(responses, rows)`` in fp32 on the CPU.

    Args:
        model: the reference.
        rows: what to score; all have the same number of responses.
        cache: folder of cached results, made if need be; ``None`` computes anew.
        fingerprint: identifies the model's weights and number format; with the tokens it is the cache key.
        processes: who share the work; the first of them reads and writes the cache.
        progress: called after every forward pass with the number of responses scored and in all.
    """
    sequences = sorted({(row.prompt, response) for row in rows for response in row.responses}, key=_order)
    file = cache / f"{_key(sequences, fingerprint)}.safetensors" if cache is not None else None
    first = processes is None or processes.first
    values = _read(file, len(sequences)) if first and file is not None and file.is_file() else None
    if processes is not None:
        values = processes.from_first(values)
    if values is None:
        values = _score(model, sequences, processes, progress)
        if first and file is not None:
            _write(file, values)
    position = {sequence: index for index, sequence in enumerate(sequences)}
    index = [[position[row.prompt, row.responses[k]] for row in rows] for k in range(len(rows[0].responses))]
    return values[torch.tensor(index)]


def _score(
    model: CausalLM,
    sequences: Sequence[Sequence_],
    processes: Processes | None,
    progress: Progress | None,
) -> Tensor:
    values = torch.zeros(len(sequences), dtype=torch.float32, device=model.device)
    rank, count = (processes.rank, processes.count) if processes else (0, 1)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        scored = 0
        for indices in list(batches_of([_length(sequence) for sequence in sequences]))[rank::count]:
            rows = [Row(sequences[index][0], (sequences[index][1],)) for index in indices]
            batch = collate(rows, positions=(0,))
            ids, own = batch["input_ids"].to(model.device), batch["own"].to(model.device)
            values[indices] = token_logprobs(model, ids, own).sum(dim=1)
            scored += len(indices) * count
            if progress is not None:
                progress(min(scored, len(sequences)), len(sequences))
    model.train(was_training)
    return (processes.add_up(values) if processes else values).cpu()


def batches_of(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of sequences in batches of like length, of at most so many tokens with padding.

    The longest come first: a batch that does not fit in memory shows at once.
    """
    width = 0
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and (len(batch) + 1) * width > _TOKENS_PER_BATCH:
            yield batch
            batch = []
        if not batch:
            width = lengths[index]
        batch.append(index)
    if batch:
        yield batch


def _length(sequence: Sequence_) -> int:
    return len(sequence[0]) + len(sequence[1].ids)


def _order(sequence: Sequence_) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return sequence[0], sequence[1].ids, sequence[1].own


def _key(sequences: Sequence[Sequence_], fingerprint: str) -> str:
    return digest({"base": fingerprint, "tokens": token_digest(part for each in sequences for part in _order(each))})


def _read(file: Path, count: int) -> Tensor | None:
    """The values in a file of the cache; ``None`` if it is not as it was written."""
    try:
        stored = load(file.read_bytes())
        values, whole = stored["logps"], stored["sha256"]
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return values if values.shape == (count,) and torch.equal(whole, _checksum(values)) else None


def _write(file: Path, values: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Trainings of several adapters, also on several machines, may share the folder: the name is the content's, the
    # last writer wins.
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(save({"logps": values, "sha256": _checksum(values)}))
        os.replace(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _checksum(values: Tensor) -> Tensor:
    return torch.tensor(list(hashlib.sha256(values.contiguous().numpy().tobytes()).digest()), dtype=torch.uint8)
