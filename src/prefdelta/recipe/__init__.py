"""Recipes: the whole configuration of a run, from one YAML file.

Every model here refuses unknown keys and names the nearest known one, because a misspelt key that is silently
ignored changes a result without a trace.
"""

from prefdelta.recipe.aggregation import Baseline, Control, Delta, Domain, Merge, Recipe
from prefdelta.recipe.base import BaseRecipe
from prefdelta.recipe.config import Config, configure
from prefdelta.recipe.kinds import RECIPES, configure_recipe
from prefdelta.recipe.loading import load_recipe, settings_mapping
from prefdelta.recipe.models import AnySource, Imported, Model, ModelRef, Server, Source
from prefdelta.recipe.pairing import Pairing
from prefdelta.recipe.questions import LM_EVAL, Benchmark, LmEval, Prompts, Questions
from prefdelta.recipe.sampling import Filters, Sampling, Search
from prefdelta.recipe.scoring import Scoring
from prefdelta.recipe.training import Lora, Objective, Training

__all__ = [
    "LM_EVAL",
    "RECIPES",
    "AnySource",
    "BaseRecipe",
    "Baseline",
    "Benchmark",
    "Config",
    "Control",
    "Delta",
    "Domain",
    "Filters",
    "Imported",
    "LmEval",
    "Lora",
    "Merge",
    "Model",
    "ModelRef",
    "Objective",
    "Pairing",
    "Prompts",
    "Questions",
    "Recipe",
    "Sampling",
    "Scoring",
    "Search",
    "Server",
    "Source",
    "Training",
    "configure",
    "configure_recipe",
    "load_recipe",
    "settings_mapping",
]
