"""The embedded family: tiny Qwen3-architecture models, their tasks and their search corpus, shipped in the package.

One student and four families of two models each (``<family>-weak`` and ``<family>-weaker``). Each family's weak model
shows one reasoning behaviour and one search behaviour more often than its weaker sibling; all are worse than the
student. ``scripts/micro_family`` trains them all again.
"""

from prefdelta.core.embedded import model_path
from prefdelta.micro.behaviours import BEHAVIOURS, behaviours
from prefdelta.micro.tasks import TASKS, items
from prefdelta.micro.world import corpus

FAMILIES: tuple[str, ...] = ("ash", "birch", "cedar", "elm")
MODELS: tuple[str, ...] = ("student", *(f"{family}-{size}" for family in FAMILIES for size in ("weak", "weaker")))

__all__ = ["BEHAVIOURS", "FAMILIES", "MODELS", "TASKS", "behaviours", "corpus", "items", "model_path"]
