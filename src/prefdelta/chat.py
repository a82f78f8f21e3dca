"""From messages and answers to token ids, the same way in sampling, training and evaluation.

A model is sampled, trained and evaluated on token ids, while files hold text. The two must agree exactly, or a model is
trained on something that nobody ever sampled. Three rules give that:

* The ids of a prompt are those of the chat template with the generation prompt added, and an answer's ids come after
  them. So the prompt is a prefix of prompt + answer by construction, not by the luck of a tokenizer's merges.
* Every span of an answer is tokenized by itself, because that is how it came about: the sampler appended the ids of a
  search result to the ids that the model had written, without merging over the seam.
* A mask says which ids the model wrote. It is 0 on search results, and 1 on the end-of-turn token of an answer that
  stopped. An answer that was cut off has no end-of-turn token: it must not be trained to end there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Message, Sample

_PROBE = "prefdelta-probe"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], thinking: bool) -> list[int]:
    """The ids of a conversation up to where the assistant's answer begins.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: ``{"role": ..., "content": ...}``, the last of them not yet answered.
        thinking: given to the template as ``enable_thinking``; templates that do not know it ignore it.

    Raises:
        PrefdeltaError: the tokenizer has no chat template, or the template refuses the messages.
    """
    return prompts_ids(tokenizer, [messages], thinking)[0]


def prompts_ids(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], thinking: bool
) -> list[list[int]]:
    """:func:`prompt_ids` of many conversations, in less than half of the time."""
    if not conversations:
        return []
    texts = _render(tokenizer, conversations, thinking=thinking, open_answer=True)
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def completion_ids(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> tuple[list[int], list[int]]:
    """The ids of an answer, and which of them the model wrote.

    Returns:
        Two lists of one length: ids, and 1 where the model wrote the id, 0 where it read it.

    Raises:
        PrefdeltaError: the answer stopped, and the tokenizer has no end-of-turn token.
    """
    ids: list[int] = []
    mask: list[int] = []
    for span in sample.spans:
        part = encode(tokenizer, span.text)
        ids += part
        mask += [int(span.source == "model")] * len(part)
    if sample.finish == "stop":
        ids.append(end_of_turn_id(tokenizer))
        mask.append(1)
    return ids, mask


@lru_cache(maxsize=16)
def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends an assistant's turn.

    It is the first special token that the chat template writes after an answer, which is not always the tokenizer's
    end-of-sequence token (Gemma: ``<end_of_turn>``, not ``<eos>``); without a template, or where the template writes
    none, it is the end-of-sequence token.

    Raises:
        PrefdeltaError: there is neither.
    """
    if tokenizer.chat_template is not None:
        turn = ({"role": "user", "content": "?"}, {"role": "assistant", "content": _PROBE})
        tail = _render(tokenizer, [turn], thinking=False, open_answer=False)[0].rpartition(_PROBE)[2]
        special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        for number in encode(tokenizer, tail):
            if number in special:
                return number
    if tokenizer.eos_token_id is None:
        raise PrefdeltaError(f"the tokenizer {_name(tokenizer)} has no end-of-sequence token; set its eos_token.")
    return int(tokenizer.eos_token_id)


def stop_ids(tokenizer: PreTrainedTokenizerBase, config: GenerationConfig | None) -> list[int]:
    """All ids at which the model's own configuration ends a turn; :func:`end_of_turn_id` comes first."""
    listed = config.eos_token_id if config is not None else None
    more = listed if isinstance(listed, list) else [listed]
    found = [end_of_turn_id(tokenizer), tokenizer.eos_token_id, *more]
    return list(dict.fromkeys(int(number) for number in found if number is not None))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, with nothing left out or tidied, so that it encodes to the same ids where that is possible."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text by itself, without any token that the tokenizer would add at its ends."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def _render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, thinking: bool, open_answer: bool
) -> list[str]:
    if tokenizer.chat_template is None:
        raise PrefdeltaError(
            f"the tokenizer {_name(tokenizer)} has no chat template; use an instruction-tuned model, or add a "
            "chat_template.jinja to the model's folder."
        )
    try:
        return list(
            tokenizer.apply_chat_template(
                [[dict(message) for message in messages] for messages in conversations],
                tokenize=False,
                add_generation_prompt=open_answer,
                enable_thinking=thinking,
            )
        )
    except TemplateError as error:
        raise PrefdeltaError(f"the chat template of {_name(tokenizer)} refuses the messages: {error}.") from error


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return repr(tokenizer.name_or_path) if tokenizer.name_or_path else "given"
