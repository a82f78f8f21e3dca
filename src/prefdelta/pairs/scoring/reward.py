"""Scores by a reward model: any sequence-classification checkpoint, over the conversation and its answer."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from prefdelta.core.chat import conversation_ids
from prefdelta.core.checkpoint import check_model_folder
from prefdelta.core.errors import PrefdeltaError, PrefdeltaWarning
from prefdelta.core.model_files import local_folder
from prefdelta.core.models import context_of, default_device, load_tokenizer, loading, torch_dtype
from prefdelta.core.records import Item, Sample
from prefdelta.core.thoughts import after_thoughts, stray_thought
from prefdelta.pairs.scoring.scores import REWARD_BATCHES
from prefdelta.recipe import ModelRef


@dataclass(frozen=True)
class LoadedReward:
    """A reward model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_reward(ref: ModelRef) -> LoadedReward:
    """Load a sequence-classification checkpoint.

    Raises:
        PrefdeltaError: it cannot be found or read, or has no trained head: a causal LM's checkpoint would load too,
            with a head of random numbers.
    """
    device = default_device()
    where, tokenizer = local_folder(ref), load_tokenizer(ref)
    if where is not None:
        check_model_folder(where)
    with loading(f"the reward model {ref.path!r}"):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            where or ref.path,
            revision=ref.revision,
            dtype=torch_dtype(ref, device),
            trust_remote_code=ref.trust_remote_code,
            output_loading_info=True,
        )
    if info["missing_keys"]:
        raise PrefdeltaError(
            f"{ref.path!r} is no reward model: its checkpoint lacks {min(info['missing_keys'])!r}, which would be "
            "random; give a sequence-classification checkpoint."
        )
    tokenizer.padding_side = "right"  # as these models are trained
    return LoadedReward(model.to(device).eval(), tokenizer)


class RewardScorer:
    """Scores with a reward model that is in memory.

    Answers are cut into fixed groups, within which equally long rows are batched, so that the same answers give the
    same bytes.

    Args:
        loaded: the model.
        batch_size: rows at once.
        max_length: tokens of prompt and answer; a longer row loses its end. The model's own limit if ``None``.
        label: of a model with several outputs, the one whose log-probability is the score. Without it, a model whose
            class comes with its checkpoint is asked for the ``score`` that it makes of its outputs.

    Raises:
        PrefdeltaError: the model has several outputs and ``label`` does not name one of them.
    """

    def __init__(
        self, loaded: LoadedReward, *, batch_size: int = 16, max_length: int | None = None, label: int | None = None
    ) -> None:
        outputs = int(loaded.model.config.num_labels)
        # A class of the checkpoint's own may weigh its outputs itself (ArmoRM): then it says so with every answer.
        self._weighed = outputs > 1 and label is None and hasattr(loaded.model.config, "auto_map")
        if outputs > 1 and label is None and not self._weighed:
            names = ", ".join(f"{number}: {name}" for number, name in sorted(loaded.model.config.id2label.items()))
            raise PrefdeltaError(f"the reward model has {outputs} outputs ({names}); say which one with scoring.label.")
        if label is not None and label >= outputs:
            raise PrefdeltaError(f"the reward model has {outputs} outputs; scoring.label {label} is none of them.")
        self._loaded = loaded
        self._batch_size = batch_size
        self.together = REWARD_BATCHES * batch_size
        limit = min(context_of(loaded.model.config), loaded.tokenizer.model_max_length)
        self._max_length = min(max_length or limit, limit)
        self._label = label if outputs > 1 else None
        self.truncated = 0
        """How many of the rows scored so far were cut."""

    def describe(self) -> Mapping[str, Any]:
        """Everything but the rows that a score depends on."""
        return {
            "model": str(self._loaded.model.config._name_or_path),
            "batch_size": self._batch_size,
            "max_length": self._max_length,
            "label": self._label,
        }

    def stream(
        self, answers: Sequence[tuple[Item, Sample]], done: Container[int] = ()
    ) -> Iterator[list[tuple[int, float]]]:
        """Score in fixed groups; a group of which only a part is done is computed again."""
        for start in range(0, len(answers), self.together):
            places = range(start, min(start + self.together, len(answers)))
            if not all(place in done for place in places):
                yield list(zip(places, self.scores([answers[place] for place in places]), strict=True))
        if self.truncated:
            warnings.warn(
                f"{self.truncated} answers had more than {self._max_length} tokens with their prompts; the reward "
                "model did not see their ends.",
                PrefdeltaWarning,
                stacklevel=2,
            )

    def scores(self, answers: Sequence[tuple[Item, Sample]]) -> list[float]:
        """The scores of answers, in their order."""
        rows = [self.row(item, sample) for item, sample in answers]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))  # stable
        found: dict[int, float] = {}
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            found.update(zip(batch, self._forward([rows[place] for place in batch]), strict=True))
        return [found[place] for place in range(len(rows))]

    def row(self, item: Item, sample: Sample) -> list[int]:
        """Token ids: the chat template's where there is one, else question and answer as a pair of texts."""
        tokenizer = self._loaded.tokenizer
        said = final_text(sample)
        if tokenizer.chat_template is not None:
            ids = conversation_ids(tokenizer, [*item.messages, {"role": "assistant", "content": said}])
        else:
            ids = tokenizer("\n\n".join(message["content"] for message in item.messages), said)["input_ids"]
        self.truncated += len(ids) > self._max_length
        return list(ids[: self._max_length])

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        model = self._loaded.model
        config = model.config.get_text_config()
        width = max(len(row) for row in rows)
        # These models read the score at the last token that is not padding, which they find by its id. Where the
        # checkpoint names no padding token, one is taken that no row contains: the end-of-sequence token, say, would
        # move the place at which rows are read.
        pad = config.pad_token_id if config.pad_token_id is not None else _absent(rows)
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
        before, config.pad_token_id = config.pad_token_id, pad
        try:
            output = model(input_ids=ids, attention_mask=mask)
        finally:
            config.pad_token_id = before
        if self._weighed:
            if getattr(output, "score", None) is None:
                raise PrefdeltaError("the reward model has several outputs and no score of its own; set scoring.label.")
            return [float(score) for score in output.score.float().reshape(len(rows))]
        logits = output.logits.float().reshape(len(rows), -1)
        scores = logits[:, 0] if self._label is None else logits.log_softmax(-1)[:, self._label]
        return [float(score) for score in scores]


def final_text(sample: Sample) -> str:
    """What a reward model is shown of an answer: search results too, but no thinking."""
    if sample.thinking or stray_thought(sample):
        return after_thoughts(sample.text, thinking=sample.thinking)
    return sample.text


def _absent(rows: Sequence[Sequence[int]]) -> int:
    """The lowest id that is in none of the rows."""
    used = {number for row in rows for number in row}
    return next(number for number in range(len(used) + 1) if number not in used)
