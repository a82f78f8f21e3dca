"""Reward models: a tiny one with random weights, against the plain library call row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    PreTrainedTokenizerBase,
    Qwen3ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Item, Sample, Span
from prefdelta.pairs.scoring.reward import LoadedReward, RewardScorer, final_text, load_reward
from prefdelta.recipe import ModelRef
from tiny import tiny_model, tiny_tokenizer


def _reward(outputs: int = 1, **settings: Any) -> Qwen3ForSequenceClassification:
    config = tiny_model().config
    config.num_labels = outputs
    for name, value in settings.items():
        setattr(config, name, value)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Qwen3ForSequenceClassification(config).eval()


ANSWERS = [
    (
        Item(f"i{number}", "t", ({"role": "user", "content": "?" * (number % 7)},)),
        Sample(f"i{number}", (Span("so " * (number % 5)),), "stop", 1),
    )
    for number in range(23)
]


def _one_by_one(model: Qwen3ForSequenceClassification, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    found = []
    for item, sample in ANSWERS:
        messages = [*item.messages, {"role": "assistant", "content": sample.text}]
        ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            found.append(model(input_ids=torch.tensor([ids])).logits[0])
    return torch.stack(found)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batched_scores_are_those_of_single_rows(batch_size: int) -> None:
    model, tokenizer = _reward(), tiny_tokenizer()
    assert model.config.pad_token_id is None
    expected = _one_by_one(model, tokenizer)[:, 0]
    scores = RewardScorer(LoadedReward(model, tokenizer), batch_size=batch_size).scores(ANSWERS)
    assert torch.tensor(scores) == pytest.approx(expected, abs=1e-5)
    assert expected.std() > 0.05
    assert model.config.pad_token_id is None


def test_a_label_of_several_is_scored_by_its_log_probability() -> None:
    model, tokenizer = _reward(outputs=3), tiny_tokenizer()
    expected = _one_by_one(model, tokenizer).log_softmax(-1)[:, 2]
    scores = RewardScorer(LoadedReward(model, tokenizer), label=2).scores(ANSWERS)
    assert torch.tensor(scores) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(PrefdeltaError, match=r"3 outputs \(0: LABEL_0.*scoring\.label"):
        RewardScorer(LoadedReward(model, tokenizer))
    with pytest.raises(PrefdeltaError, match="label 3 is none"):
        RewardScorer(LoadedReward(model, tokenizer), label=3)


class _Weighing(Qwen3ForSequenceClassification):
    """Makes one score of its outputs itself, as ArmoRM's class does."""

    def forward(self, *arguments: Any, **settings: Any) -> Any:
        output = super().forward(*arguments, **settings)
        output.score = output.logits @ torch.tensor([0.5, 2.0, -1.0])
        return output


def test_a_model_that_weighs_its_outputs_itself_is_asked_for_its_score() -> None:
    plain, tokenizer = _reward(outputs=3), tiny_tokenizer()
    expected = _one_by_one(plain, tokenizer) @ torch.tensor([0.5, 2.0, -1.0])
    own = _Weighing(plain.config).eval()
    own.load_state_dict(plain.state_dict())
    own.config.auto_map = {"AutoModelForSequenceClassification": "modeling_custom.Weighing"}
    assert torch.tensor(RewardScorer(LoadedReward(own, tokenizer)).scores(ANSWERS)) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(PrefdeltaError, match="no score of its own"):
        RewardScorer(LoadedReward(plain, tokenizer)).scores(ANSWERS)


def test_a_tokenizer_without_a_template_gets_question_and_answer_as_texts() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    scorer = RewardScorer(LoadedReward(_reward(), tokenizer))
    item, sample = ANSWERS[6]
    assert scorer.row(item, sample) == tokenizer(item.messages[0]["content"], sample.text)["input_ids"]


def test_a_long_row_loses_its_end_and_is_told() -> None:
    scorer = RewardScorer(LoadedReward(_reward(), tiny_tokenizer()), max_length=9)
    whole = RewardScorer(LoadedReward(_reward(), tiny_tokenizer()))
    item, sample = ANSWERS[4]
    assert scorer.row(item, sample) == whole.row(item, sample)[:9]
    with pytest.warns(UserWarning, match="answers had more than 9 tokens"):
        list(scorer.stream(ANSWERS))


def test_a_row_is_no_longer_than_its_tokenizer_says() -> None:
    """RoBERTa numbers positions from 2, so that it reads two tokens fewer than its configuration says."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 32
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=34, num_labels=1, **sizes)
    scorer = RewardScorer(LoadedReward(RobertaForSequenceClassification(config).eval(), tokenizer))
    long = Item("i", "t", ({"role": "user", "content": "?" * 60},))
    assert len(scorer.row(long, ANSWERS[4][1])) == 32
    assert len(scorer.scores([(long, ANSWERS[4][1])])) == 1


def test_loading_keeps_the_trained_head_and_refuses_a_model_without_one(tmp_path: Path) -> None:
    model, tokenizer = _reward().to(torch.bfloat16), tiny_tokenizer()
    for name, saved in (("reward", model), ("causal", tiny_model())):
        saved.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    loaded = load_reward(ModelRef(path=str(tmp_path / "reward"), dtype="bfloat16"))
    assert loaded.model.dtype == torch.bfloat16
    assert torch.equal(loaded.model.score.weight, model.score.weight)
    with pytest.raises(PrefdeltaError, match=r"no reward model: its checkpoint lacks 'score\.weight'"):
        load_reward(ModelRef(path=str(tmp_path / "causal")))
    with pytest.raises(PrefdeltaError, match="no model folder"):
        load_reward(ModelRef(path=str(tmp_path / "gone")))
    weights = tmp_path / "reward" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PrefdeltaError, match=r"model\.safetensors"):
        load_reward(ModelRef(path=str(tmp_path / "reward")))


def test_a_thought_is_not_scored_but_what_was_found_is() -> None:
    thinking = Sample("i", (Span("<think>hm</think>\n\nyes"),), "stop", 1, thinking=True)
    assert final_text(thinking) == "yes"
    unfinished = Sample("i", (Span("<think>hm"),), "length", 1, thinking=True)
    assert final_text(unfinished) == ""
    searched = Sample("i", (Span("a"), Span("b", "environment"), Span("c")), "stop", 1)
    assert final_text(searched) == "abc"
