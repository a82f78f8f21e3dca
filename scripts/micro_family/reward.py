"""Training the embedded reward model: ``python -m micro_family.reward --output DIR``.

It is the student with a head of one number, trained to tell right answers of the reasoning tasks from wrong ones. Its
examples are answers of the student and of the four weak models to training questions that lie beyond those that any
recipe draws; whether an answer is right is decided by the gold answer. Nobody tells it how to add up: it sees texts and
a right or wrong for each.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from micro_family.train import adamw, save
from prefdelta.core.embedded import model_path
from prefdelta.core.models import load
from prefdelta.core.records import Item, Sample
from prefdelta.evaluation.scoring import exact_match
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.micro import FAMILIES, items
from prefdelta.pairs.scoring.reward import LoadedReward, RewardScorer
from prefdelta.recipe import ModelRef, Sampling
from prefdelta.training.loop import optimise

FIRST_PROMPT, PROMPTS, ANSWERS = 10_000, 1_600, 2
"""Which training questions it learns from, and how many answers of each model to a question."""

_EPOCHS, _BATCH, _RATE, _SEED = 4, 128, 2e-3, 6
_GROUP = 8  # batches that are cut from one stretch of the shuffled rows, like with like, to save padding


def examples() -> list[tuple[Item, Sample, bool]]:
    """Questions, answers, and whether they are right."""
    asked = items("reasoning", split="train", count=FIRST_PROMPT + PROMPTS)[FIRST_PROMPT:]
    sampling = Sampling(n=ANSWERS, temperature=1.0, max_new_tokens=64, batch_size=512)
    found: list[tuple[Item, Sample, bool]] = []
    for name in ("student", *(f"{family}-weak" for family in FAMILIES)):
        sampler = TransformersSampler(load(ModelRef(path=f"micro:{name}")), sampling)
        requests = requests_for(asked, _SEED, ANSWERS)
        samples = sampler.sample(requests)
        found += [
            (request.item, sample, exact_match(sample, request.item.answers).value == 1)
            for request, sample in zip(requests, samples, strict=True)
        ]
    return found


def train_reward(output: Path) -> float:
    """Train the reward model and save it under ``output``.

    Returns:
        The mean loss of the last epoch, in nats per answer.
    """
    torch.set_num_threads(1)  # sums are added up in another order with another number of threads
    rows = examples()
    student = load(ModelRef(path="micro:student"))
    torch.manual_seed(_SEED)  # transformers draws the head's weights from the global generator
    model = AutoModelForSequenceClassification.from_pretrained(str(model_path("student")), num_labels=1)
    model.config.pad_token_id = student.tokenizer.pad_token_id
    student.tokenizer.padding_side = "right"
    scorer = RewardScorer(LoadedReward(model, student.tokenizer))
    ids = [scorer.row(item, sample) for item, sample, _ in rows]
    targets = torch.tensor([float(right) for _, _, right in rows])
    lengths = [len(row) for row in ids]
    batches = [batch for epoch in range(_EPOCHS) for batch in _batches(lengths, epoch)]
    losses: list[float] = []

    def gradients_at(step: int) -> dict[str, float]:
        logits = _logits(model, [ids[row] for row in batches[step]], student.tokenizer)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets[batches[step]])
        loss.backward()
        losses.append(loss.item())
        return {}

    model.train()
    optimise(list(model.parameters()), gradients_at, adamw(len(batches), _RATE))
    tail = losses[-len(batches) // _EPOCHS :]
    save(model.eval(), student.tokenizer, output / "reward")
    return sum(tail) / len(tail)


def _batches(lengths: Sequence[int], epoch: int) -> Iterator[list[int]]:
    draw = random.Random(f"{_SEED}.{epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    for start in range(0, len(order) - _BATCH + 1, _GROUP * _BATCH):
        stretch = sorted(order[start : start + _GROUP * _BATCH], key=lambda row: lengths[row])
        cuts = list(range(0, len(stretch) - _BATCH + 1, _BATCH))
        draw.shuffle(cuts)
        for cut in cuts:
            yield stretch[cut : cut + _BATCH]


def _logits(model: torch.nn.Module, rows: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    width = max(len(row) for row in rows)
    padding = int(tokenizer.pad_token_id)
    ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    return logits


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded reward model from seeds, on the CPU.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the model's folder to")
    print(f"loss {train_reward(parser.parse_args(arguments).output):.3f}")


if __name__ == "__main__":
    main()
