"""Recipes: the whole configuration of a run, from one YAML file.

Every model here refuses unknown keys and names the nearest known one, because a misspelt key that is silently
ignored changes a result without a trace.
"""

from prefdelta.core.config import Named, configure
from prefdelta.core.reference import ModelRef
from prefdelta.recipe.aggregation import Baseline, Control, Delta, Domain, Recipe
from prefdelta.recipe.base import BaseRecipe, Resources
from prefdelta.recipe.kinds import RECIPE, RECIPES, configure_recipe
from prefdelta.recipe.loading import load_recipe, settings_mapping
from prefdelta.recipe.methods import MergeMethod
from prefdelta.recipe.models import AnySource, Imported, Server, labelled, source_label
from prefdelta.recipe.pairing import Pairing
from prefdelta.recipe.questions import LM_EVAL, PAIRS, REGISTERED, Benchmark, HeldOutPairs, LmEval, Prompts, Questions
from prefdelta.recipe.sampling import Filters, Sampling, Search
from prefdelta.recipe.scoring import Scoring
from prefdelta.recipe.selection import By
from prefdelta.recipe.training import Lora, Training

__all__ = [
    "LM_EVAL",
    "PAIRS",
    "RECIPE",
    "RECIPES",
    "REGISTERED",
    "AnySource",
    "BaseRecipe",
    "Baseline",
    "Benchmark",
    "By",
    "Control",
    "Delta",
    "Domain",
    "Filters",
    "HeldOutPairs",
    "Imported",
    "LmEval",
    "Lora",
    "MergeMethod",
    "ModelRef",
    "Named",
    "Pairing",
    "Prompts",
    "Questions",
    "Recipe",
    "Resources",
    "Sampling",
    "Scoring",
    "Search",
    "Server",
    "Training",
    "configure",
    "configure_recipe",
    "labelled",
    "load_recipe",
    "settings_mapping",
    "source_label",
]
