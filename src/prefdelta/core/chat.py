"""From messages and answers to token ids, the same way in sampling, training and evaluation.

A model is sampled, trained and evaluated on token ids, while files hold text. The two must agree exactly, or a model is
trained on something that nobody ever sampled. Four rules give that:

* The ids of a prompt are those of the chat template with the generation prompt added, and an answer's ids come after
  them. So the prompt is a prefix of prompt + answer by construction, not by the luck of a tokenizer's merges.
* Every span of an answer is tokenized by itself, because that is how it came about: the sampler appended the ids of a
  search result to the ids that the model had written, without merging over the seam.
* A mask says which ids the model wrote. It is 0 on search results, and 1 on the end-of-turn token of an answer that
  stopped. An answer that was or may have been cut off has no end-of-turn token: it must not be trained to end there.
* Only the template writes control tokens (special tokens, and all that it puts around messages). The same letters in a
  message, an answer or a search result are text, and are tokenized in pieces that no control token matches. In a
  search result this holds for tags as well, but for the pair around the whole of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Message, Sample, Span
from prefdelta.core.templates import answer_frame, check_opens_answer, frames, name_of, render

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

_THOUGHT = re.compile(r"think|thought|reason", re.IGNORECASE)
_TAG = re.compile(r"\W.*\W", re.DOTALL)
_SHOWN = re.compile(r"(\s*<([^<>/]+)>)(.*)(</\2>\s*)", re.DOTALL)
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # noncharacters: no text has a meaning for them
_LEADS = ("\n", "\t", "|", "0")


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], thinking: bool) -> list[int]:
    """The ids of a conversation up to where the assistant's answer begins.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: ``{"role": ..., "content": ...}``, the last of them not yet answered.
        thinking: given to the template as ``enable_thinking``; templates that do not know it ignore it.

    Raises:
        PrefdeltaError: the tokenizer has no chat template, or the template refuses the messages, fails, or does not
            open an answer.
    """
    return prompts_ids(tokenizer, [messages], thinking)[0]


def prompts_ids(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], thinking: bool
) -> list[list[int]]:
    """:func:`prompt_ids` of many conversations, in less than half of the time."""
    if conversations:
        _opens_answer(tokenizer, str(tokenizer.chat_template), thinking)
    return _conversations_ids(tokenizer, conversations, thinking, open_answer=True)


def conversation_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """The ids of a whole conversation, its last answer included, as the chat template closes it.

    Raises:
        PrefdeltaError: as :func:`prompt_ids`.
    """
    return _conversations_ids(tokenizer, [messages], False, open_answer=False)[0]


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
        part = span_ids(tokenizer, span)
        ids += part
        mask += [int(span.source == "model")] * len(part)
    if sample.finish == "stop":
        end = end_of_turn_ids(tokenizer)
        ids += end
        mask += [1] * len(end)
    return ids, mask


def span_ids(tokenizer: PreTrainedTokenizerBase, span: Span) -> list[int]:
    """The ids of one span of an answer by itself."""
    control = _control(tokenizer)
    if span.source == "model":
        return _as_text(tokenizer, span.text, control)
    framed = _SHOWN.fullmatch(span.text)
    before, inside, after = framed.group(1, 3, 4) if framed else ("", span.text, "")
    mark = _unused(span.text)
    return _marked_ids(tokenizer, before + control.tags.marked(inside, mark) + after, mark)


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids that end an assistant's turn: what the chat template writes after an answer.

    That is the first token there that was added to the vocabulary, special or not, which is not always the tokenizer's
    end-of-sequence token (Gemma: ``<end_of_turn>``, not ``<eos>``). A template may also end a turn by plain text, of
    several ids. Without a template, or where it writes nothing, it is the end-of-sequence token.

    Raises:
        PrefdeltaError: there is neither.
    """
    found = _control(tokenizer).turn_end
    if found:
        return found
    if tokenizer.eos_token_id is None:
        raise PrefdeltaError(f"the tokenizer {name_of(tokenizer)} has no end-of-sequence token; set its eos_token.")
    return (int(tokenizer.eos_token_id),)


def stop_ids(tokenizer: PreTrainedTokenizerBase, config: GenerationConfig | None) -> list[int]:
    """All single ids at which the model's own configuration ends a turn; the template's comes first."""
    listed = config.eos_token_id if config is not None else None
    more = listed if isinstance(listed, list) else [listed]
    end = end_of_turn_ids(tokenizer)
    found = [*(end if len(end) == 1 else ()), tokenizer.eos_token_id, *more]
    return list(dict.fromkeys(int(number) for number in found if number is not None))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids, with nothing left out or tidied, so that it encodes to the same ids where that is possible."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text by itself: without control tokens, and without any that the tokenizer adds at its ends."""
    return _as_text(tokenizer, text, _control(tokenizer))


class _Literals:
    """Finds the letters of some tokens in texts, and marks where to cut them so that no token matches."""

    def __init__(self, contents: Sequence[str]) -> None:
        longest_first = sorted(set(contents), key=lambda content: (-len(content), content))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if contents else None

    def marked(self, text: str, mark: str) -> str:
        """The text with ``mark`` after the first character of each of the tokens' letters in it."""
        while self._pattern is not None and self._pattern.search(text):  # again: what a cut leaves may match as well
            text = self._pattern.sub(lambda match: match[0][0] + mark + match[0][1:], text)
        return text


@dataclass(frozen=True)
class _Control:
    """What of a tokenizer's vocabulary is not text.

    Attributes:
        ids: the control tokens.
        literals: their letters.
        tags: their letters and those of all other added tokens that look like tags.
        turn_end: what the chat template ends an answer with; empty if nothing.
    """

    ids: frozenset[int]
    literals: _Literals
    tags: _Literals
    turn_end: tuple[int, ...]


def _control(tokenizer: PreTrainedTokenizerBase) -> _Control:
    template = tokenizer.chat_template
    return _control_of(tokenizer, None if template is None else str(template), len(tokenizer))


@lru_cache(maxsize=32)
def _control_of(tokenizer: PreTrainedTokenizerBase, template: str | None, size: int) -> _Control:
    """``template`` and ``size`` are there for the cache: a tokenizer can be changed."""
    # A token of one character cannot be told from that character in a text, nor can the unknown token from its letters.
    added = {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if len(token.content) > 1 and token.content.strip() and number != tokenizer.unk_token_id
    }
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    around, after = (frames(tokenizer), answer_frame(tokenizer)[1]) if template is not None else ([], "")
    framing = {number for part in around for number in _raw(tokenizer, part)}
    # A model may write a thought itself, also where the template begins it.
    control = {
        number: content
        for number, content in added.items()
        if number in special or (number in framing and not _THOUGHT.search(content))
    }
    end: tuple[int, ...] = next(((number,) for number in _raw(tokenizer, after) if number in added), ())
    if not end and after.strip():
        end = tuple(_continued(tokenizer, _raw(tokenizer, "0"), after.rstrip()))
    tags = [content for content in added.values() if _TAG.fullmatch(content)]
    return _Control(
        ids=frozenset(control),
        literals=_Literals([*control.values()]),
        tags=_Literals([*control.values(), *tags]),
        turn_end=end,
    )


@lru_cache(maxsize=32)
def _opens_answer(tokenizer: PreTrainedTokenizerBase, template: str, thinking: bool) -> None:
    check_opens_answer(tokenizer, thinking)


def _conversations_ids(
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[Message]],
    thinking: bool,
    *,
    open_answer: bool,
) -> list[list[int]]:
    if not conversations:
        return []
    contents = sorted({message["content"] for messages in conversations for message in messages})
    control = _control(tokenizer)
    read = tokenizer(contents, add_special_tokens=False)["input_ids"] if contents else []
    risky = {content for content, ids in zip(contents, read, strict=True) if not control.ids.isdisjoint(ids)}
    marks = [_unused("".join(message["content"] for message in messages)) for messages in conversations]
    marked = [
        [
            {**message, "content": _cut(tokenizer, message["content"], control, mark)}
            if message["content"] in risky
            else message
            for message in messages
        ]
        for messages, mark in zip(conversations, marks, strict=True)
    ]
    texts = render(tokenizer, marked, thinking=thinking, open_answer=open_answer)
    rows = [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return [
        _marked_ids(tokenizer, text, mark) if mark in text else ids
        for text, mark, ids in zip(texts, marks, rows, strict=True)
    ]


def _as_text(tokenizer: PreTrainedTokenizerBase, text: str, control: _Control) -> list[int]:
    ids = _raw(tokenizer, text)
    if control.ids.isdisjoint(ids):
        return ids
    mark = _unused(text)
    return _marked_ids(tokenizer, _cut(tokenizer, text, control, mark), mark)


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, control: _Control, mark: str) -> str:
    """The text with marks at which to cut it so that no control token comes of it."""
    marked = control.literals.marked(text, mark)
    if control.ids.isdisjoint(_marked_ids(tokenizer, marked, mark)):
        return marked
    # A tokenizer that folds case or width sees control tokens in other letters too.
    return mark.join(text)


def _marked_ids(tokenizer: PreTrainedTokenizerBase, text: str, mark: str) -> list[int]:
    """The ids of a text, piece by piece between marks."""
    first, *others = text.split(mark)
    ids = _raw(tokenizer, first)
    for piece in others:
        ids += _continued(tokenizer, ids, piece)
    return ids


def _continued(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[int]:
    """The ids of a text that goes on after ``ids``.

    Some tokenizers put a space before whatever they are given (SentencePiece); there the text is tokenized behind a
    character that stays a token of its own.
    """
    wanted = decode(tokenizer, ids) + text
    alone = _raw(tokenizer, text)
    if decode(tokenizer, [*ids, *alone]) == wanted:
        return alone
    for lead in _LEADS:
        head, whole = _raw(tokenizer, lead), _raw(tokenizer, lead + text)
        if whole[: len(head)] == head and decode(tokenizer, [*ids, *whole[len(head) :]]) == wanted:
            return whole[len(head) :]
    return alone


def _raw(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text in which control tokens count."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def _unused(text: str) -> str:
    """A mark that is not in the text."""
    return next((mark for mark in _MARKS if mark not in text), _MARKS[0])
