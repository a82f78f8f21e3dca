"""The embedded reward model: that it is what its script trains, and that it tells right answers from wrong ones."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from micro_family.reward import FIRST_PROMPT
from prefdelta import micro
from prefdelta.core.models import load
from prefdelta.evaluation.scoring import exact_match
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import requests_for
from prefdelta.pairs.scoring.reward import RewardScorer, load_reward
from prefdelta.recipe import ModelRef, Sampling


def test_it_tells_right_answers_from_wrong_ones() -> None:
    """Area under the ROC curve, on questions that it was not trained on: how often a right answer beats a wrong one."""
    asked = micro.items("reasoning", split="test", count=160)
    requests = requests_for(asked, 0, 2)
    sampling = Sampling(n=2, temperature=1.0, max_new_tokens=64, batch_size=320)
    samples = TransformersSampler(load(ModelRef(path="micro:student")), sampling).sample(requests)
    answers = [(request.item, sample) for request, sample in zip(requests, samples, strict=True)]
    right = np.array([exact_match(sample, item.answers).value == 1 for item, sample in answers])
    scores = np.array(RewardScorer(load_reward(ModelRef(path="micro:reward")), batch_size=320).scores(answers))
    ranks = rankdata(scores)
    count = right.sum()
    area = (ranks[right].sum() - count * (count + 1) / 2) / (count * (~right).sum())
    assert area > 0.93


def test_its_questions_lie_beyond_those_that_recipes_draw() -> None:
    drawn = {item.messages[-1]["content"] for item in micro.items("reasoning", split="train", count=4_000)}
    learned = micro.items("reasoning", split="train", count=FIRST_PROMPT + 1_600)[FIRST_PROMPT:]
    assert not drawn & {item.messages[-1]["content"] for item in learned}


def test_it_is_no_member_of_the_family() -> None:
    assert "reward" not in micro.MODELS
    assert (micro.model_path("reward") / "model.safetensors").stat().st_size < 500_000
