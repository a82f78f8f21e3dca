"""The model card of a run's merged adapter, in Markdown for the Hugging Face Hub."""

from __future__ import annotations

import json

from prefdelta.core.names import markdown, one_line
from prefdelta.evaluation.results import Domain
from prefdelta.report.choice import choice_sentences
from prefdelta.report.contents import DomainLineage, Node
from prefdelta.report.headline import domain_headline, number_word
from prefdelta.report.usage import peft_code


def model_card(recipe: str, name: str, domain: Domain, lineage: DomainLineage) -> str:
    """The card of the adapter that was chosen in one domain.

    Args:
        recipe: the run's name.
        name: the domain's name.
        domain: the domain's entry in ``results.json``.
        lineage: where the adapter comes from.
    """
    best = domain.summary.best_merge
    deltas = "\n".join(
        _row(markdown(delta.name), *map(_cell, (delta.weak, delta.weaker, delta.pairs, delta.adapter)))
        for delta in lineage.deltas
    )
    (student,) = [method for method in domain.methods.values() if method.kind == "student"]
    ours = domain.methods[best.variant].tasks
    scores = "\n".join(
        _row(
            markdown(task),
            f"{student.tasks[task].score:.1f}",
            f"{ours[task].score:.1f}",
            difference.text if (difference := ours[task].vs_student) else "",
        )
        for task in domain.tasks
    )
    student_name = one_line(lineage.student.label)
    hub = f"base_model: {json.dumps(student_name, ensure_ascii=False)}\n" if ":" not in student_name else ""
    return f"""\
---
library_name: peft
{hub}tags:
- lora
- prefdelta
- model-merging
---

# {markdown(recipe)}: {markdown(name)}

A LoRA adapter for **{markdown(student_name)}**, merged by `{one_line(best.name)}` at scale {best.scale:g} from
{number_word(len(lineage.deltas))} preference deltas. Each delta was trained to prefer the answers of a weak model
over those of a weaker one; the scale is already in the weights.

{domain_headline(domain)}

| task | student | this adapter | difference, 95 % interval |
|---|---|---|---|
{scores}

{" ".join(markdown(sentence) for sentence in choice_sentences(domain))} The scores are on test items.

## Use

In this folder, or with its path or Hub id in place of ".":

```python
{peft_code(student_name, ".")}```

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
    return " ".join(
        part
        for part in (markdown(node.label), markdown(node.detail), f"`{node.hash[:10]}`" if node.hash else "")
        if part
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
