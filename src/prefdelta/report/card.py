"""The model card of a run's merged adapter, in Markdown for the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefdelta.report import words
from prefdelta.report.contents import DomainLineage, Node


def model_card(recipe: str, name: str, domain: Mapping[str, Any], lineage: DomainLineage) -> str:
    """The card of the adapter that was chosen in one domain.

    Args:
        recipe: the run's name.
        name: the domain's name.
        domain: the domain's entry in ``results.json``.
        lineage: where the adapter comes from.
    """
    summary = domain["summary"]
    best = summary["best_merge"]
    deltas = "\n".join(
        _row(delta.name, *map(_cell, (delta.weak, delta.weaker, delta.pairs, delta.adapter)))
        for delta in lineage.deltas
    )
    (student,) = [method for method in domain["methods"].values() if method["kind"] == "student"]
    ours = domain["methods"][best["variant"]]["tasks"]
    scores = "\n".join(
        _row(
            task,
            f"{student['tasks'][task]['score']:.1f}",
            f"{ours[task]['score']:.1f}",
            words.interval(ours[task]["vs_student"]),
        )
        for task in domain["tasks"]
    )
    hub = f"base_model: {lineage.student.label}\n" if ":" not in lineage.student.label else ""
    return f"""\
---
library_name: peft
{hub}tags:
- lora
- prefdelta
- model-merging
---

# {recipe}: {name}

A LoRA adapter for **{lineage.student.label}**, merged by `{best["name"]}` at scale {best["scale"]:g} from
{words.number_word(len(lineage.deltas))} preference deltas. Each delta was trained to prefer the answers of a weak model
over those of a weaker one; the scale is already in the weights.

{words.domain_headline(domain)}

| task | student | this adapter | difference, 95 % interval |
|---|---|---|---|
{scores}

Method and scale were chosen on validation items, the scores are on test items.

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{lineage.student.label}")
model = PeftModel.from_pretrained(base, "path/to/this/folder")
```

## Lineage

| delta | weak model (preferred) | weaker model | pairs | adapter |
|---|---|---|---|---|
{deltas}

Prompts: {_cell(lineage.prompts)}. Merged adapter: {_cell(lineage.merged)}. Codes are the first digits of SHA-256
hashes.

## Limits

Scores are those of this run's tasks, items and decoding settings; other tasks were not measured.
"""


def _cell(node: Node) -> str:
    return " ".join(part for part in (node.label, node.detail, f"`{node.hash[:10]}`" if node.hash else "") if part)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
