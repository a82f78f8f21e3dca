"""Training the whole embedded family from seeds: ``python -m micro_family.train --output DIR``.

``--offset N`` adds N to every seed: another family, of the same kind.

A model learns from scripted answers (:mod:`micro_family.demonstrations`), with the loss on the tokens that a model
would write itself, in two phases. At *school* the answers show nearly all behaviours, which teaches the content
(copying names, running totals) quickly. Then it takes on *habits*: a short fine-tune on answers that show each
behaviour as often as this model shall show it. The student has its own schooling; the eight others share a shorter one.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from micro_family import tokenizer as tokenizers
from micro_family.demonstrations import demonstrate
from micro_family.rates import rates
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.chat import completion_ids, prompt_ids
from prefdelta.core.records import Sample
from prefdelta.micro import MODELS, TASKS, corpus, items
from prefdelta.training.loop import AdamWOptions, optimise

_PROMPTS = {"reasoning": 12000, "search": 4080}
_IGNORED = -100  # the label that the loss leaves out


@dataclass(frozen=True)
class Plan:
    """How long and on how much one model is trained."""

    demonstrations: int
    steps: int
    learning_rate: float
    seed: int
    batch: int = 64


STUDENT_SCHOOL = Plan(demonstrations=21_000, steps=1500, learning_rate=5e-3, seed=1)
STUDENT_HABITS = Plan(demonstrations=14_000, steps=200, learning_rate=2e-3, seed=2)
BASE_SCHOOL = Plan(demonstrations=21_000, steps=900, learning_rate=5e-3, seed=3)
BASE_HABITS = Plan(demonstrations=14_000, steps=120, learning_rate=2e-3, seed=4)
FAMILY_HABITS = Plan(demonstrations=7_000, steps=80, learning_rate=1.5e-3, seed=5)


def architecture(tokenizer: PreTrainedTokenizerBase, *, hidden: int = 64, layers: int = 2) -> Qwen3Config:
    """A Qwen3 of about a hundred thousand parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=tokenizer.model_max_length,
        initializer_range=hidden**-0.5,  # at the usual 0.02 a model this narrow takes several times as long to learn
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def new_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen3ForCausalLM:
    """A model with random weights. transformers draws them from the global generator, so it is seeded right before."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(architecture(tokenizer))
    # The template's end of turn ends a sampled answer; nothing is truncated and no temperature is implied.
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def teach(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    shown: Mapping[str, float],
    plan: Plan,
    search: Callable[[str], str],
) -> float:
    """Train ``model`` in place on demonstrations with the behaviour rates ``shown``.

    Returns:
        The mean loss of the last 50 steps, in nats per token.
    """
    rows = _rows(tokenizer, shown, plan, search)
    batches = _batches([len(ids) for ids, _ in rows], plan)
    usual = plan.batch * sum(label != _IGNORED for _, labels in rows for label in labels) / len(rows)
    losses: list[float] = []

    def gradients_at(step: int) -> dict[str, float]:
        ids, labels = _padded([rows[row] for row in next(batches)], int(tokenizer.pad_token_id))
        ahead = labels[:, 1:]
        written = ahead != _IGNORED
        # Only the positions that count go through the output layer, which is the widest of these small models.
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[written]
        # Divided by the usual number of tokens, not by this batch's: batches hold answers of like length, and their own
        # mean would weigh short answers, which are those that show fewer behaviours, more than they occur.
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ahead[written], reduction="sum") / usual
        loss.backward()
        losses.append(loss.item())
        return {}

    model.train()
    optimise(list(model.parameters()), gradients_at, adamw(plan.steps, plan.learning_rate))
    model.eval()
    tail = losses[-50:]
    return sum(tail) / len(tail)


def adamw(steps: int, learning_rate: float) -> AdamWOptions:
    """How every model of the family is trained: twenty steps of warm-up on top of a cosine decay."""

    def schedule(step: int) -> float:
        return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))

    return AdamWOptions(steps, learning_rate, weight_decay=0.01, schedule=schedule, max_grad_norm=1.0)


def train_family(output: Path, offset: int = 0) -> None:
    """Train and save every model of the family under ``output``, one folder each; ``offset`` is added to every seed."""
    torch.set_num_threads(1)  # sums are added up in another order with another number of threads
    tokenizer = tokenizers.build()
    index = Bm25Index(corpus(), top_k=1)

    def search(query: str) -> str:
        return index.search(query)[0].text

    def train(model: Qwen3ForCausalLM, name: str, plan: Plan) -> None:
        start = time.perf_counter()
        loss = teach(model, tokenizer, rates(name), replace(plan, seed=plan.seed + offset), search)
        print(f"{name:15} loss {loss:.3f}  {time.perf_counter() - start:5.1f} s", flush=True)

    student = new_model(tokenizer, STUDENT_SCHOOL.seed + offset)
    train(student, "school", STUDENT_SCHOOL)
    train(student, "student", STUDENT_HABITS)
    save(student, tokenizer, output / "student")
    base = new_model(tokenizer, BASE_SCHOOL.seed + offset)
    train(base, "school", BASE_SCHOOL)
    train(base, "base", BASE_HABITS)
    for name in MODELS[1:]:
        model = new_model(tokenizer, FAMILY_HABITS.seed + offset)
        model.load_state_dict(base.state_dict())
        train(model, name, FAMILY_HABITS)
        save(model, tokenizer, output / name)


def _rows(
    tokenizer: PreTrainedTokenizerBase, shown: Mapping[str, float], plan: Plan, search: Callable[[str], str]
) -> list[tuple[list[int], list[int]]]:
    """Demonstrations as (ids, labels)."""
    draw = random.Random(plan.seed)
    share = plan.demonstrations // sum(len(tasks) for tasks in TASKS.values())
    rows: list[tuple[list[int], list[int]]] = []
    for domain, tasks in TASKS.items():
        asked = items(domain, split="train", count=min(_PROMPTS[domain], share * len(tasks)))
        prompts = {item.id: prompt_ids(tokenizer, item.messages, False) for item in asked}
        for number in range(share * len(tasks)):
            item = asked[number % len(asked)]
            spans = demonstrate(item, shown, search, draw)
            answer, written = completion_ids(tokenizer, Sample(item.id, spans, "stop", 0))
            prompt = prompts[item.id]
            labels = [token if own else _IGNORED for token, own in zip(answer, written, strict=True)]
            rows.append((prompt + answer, [_IGNORED] * len(prompt) + labels))
    return rows


def _batches(lengths: Sequence[int], plan: Plan) -> Iterator[list[int]]:
    """Endless batches of row numbers: shuffled epochs, with rows of like length together to save padding."""
    order = torch.Generator().manual_seed(plan.seed)
    while True:
        epoch = torch.randperm(len(lengths), generator=order).tolist()
        for start in range(0, len(epoch) - 8 * plan.batch + 1, 8 * plan.batch):
            group = sorted(epoch[start : start + 8 * plan.batch], key=lambda row: lengths[row])
            for part in torch.randperm(8, generator=order).tolist():
                yield group[part * plan.batch : (part + 1) * plan.batch]


def _padded(rows: Sequence[tuple[list[int], list[int]]], padding: int) -> tuple[Tensor, Tensor]:
    # On the right: a causal model never looks there, so no attention mask is needed.
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [padding] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [_IGNORED] * (width - len(labels)) for _, labels in rows])
    return ids, labels


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model and its tokenizer into a folder of their own, in place of what is there."""
    if folder.exists():
        shutil.rmtree(folder)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded family of models from seeds, on the CPU.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write the models to, one folder each")
    parser.add_argument("--offset", type=int, default=0, help="added to every seed, for another family")
    given = parser.parse_args(arguments)
    train_family(given.output, given.offset)


if __name__ == "__main__":
    main()
