"""A recipe small enough to be run many times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

SMALL: dict[str, Any] = {
    "name": "small",
    "student": "micro:student",
    "controls": ["reversed"],
    "domains": {
        "search": {
            "prompts": {"source": "micro:search", "count": 96},
            "sampling": {"temperature": 1.0, "max_new_tokens": 24, "batch_size": 32},
            "search": {"corpus": "micro:corpus", "top_k": 1, "max_turns": 4},
            "deltas": [
                {"name": name, "weak": f"micro:{name}-weak", "weaker": f"micro:{name}-weaker"}
                for name in ("ash", "elm")
            ],
            "training": {
                "beta": 0.5,
                "learning_rate": 1e-3,
                "batch_size": 16,
                "micro_batch_size": 16,
                "max_length": 256,
                "checkpoint_steps": 2,
                "lora": {"r": 4, "alpha": 8},
            },
            "benchmarks": [
                {"name": "lookup", "questions": {"source": "micro:lookup"}, "validation": 16, "test": 24},
            ],
        }
    },
    "merge": {"methods": ["average", "gam"], "scales": [1.0, 2.0]},
}


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path
