"""The dry-run plan of a fusion, as tables."""

from __future__ import annotations

from rich.console import Group
from rich.text import Text

from prefdelta.pipeline.aggregation.table import memory_line, model_table, stage_table
from prefdelta.pipeline.estimate import training_memory
from prefdelta.pipeline.unit import Unit
from prefdelta.recipe import ModelRef
from prefdelta.recipe.fusion import FusionRecipe


def fusion_table(recipe: FusionRecipe, units: list[Unit]) -> Group:
    """What a run would do, stage by stage, and roughly what it needs; touches neither the network nor any weights.

    Optimiser steps are an upper bound: prompts without a triple are not trained on.
    """
    models = [recipe.student, *(source for source in recipe.sources if isinstance(source, ModelRef))]
    if recipe.scoring.model is not None:
        models.append(recipe.scoring.model)
    trainings = [recipe.sft, *(method.training for method in recipe.methods.values())]
    return Group(
        stage_table(recipe.name, units),
        model_table(list(dict.fromkeys(models))),
        Text(memory_line([training_memory(recipe.student, training.lora) for training in trainings])),
        Text("Steps are the most there can be: a prompt whose answers make no triple is left out."),
    )
