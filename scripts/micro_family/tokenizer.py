"""The family's tokenizer: whole words, each with its leading space, so that decoding is plain concatenation."""

from __future__ import annotations

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from prefdelta.micro import arithmetic, world

TAGS = tuple(f"<{slash}{name}>" for name in ("search", "information", "answer") for slash in ("", "/"))
END_OF_TURN = "<|im_end|>"
_SPECIAL = ("<|endoftext|>", "<|im_start|>", END_OF_TURN)
_UNKNOWN = "<unk>"

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def vocabulary() -> list[str]:
    """Every token that is not a tag, in id order. A word is there once per form (bare, spaced) that occurs."""
    bare = ["\n", "?", ":", "system", "user", "assistant", "read", "skim", "sum", "guess", "check", "trust", "boss"]
    spaced = ["of", "is", "was", "in", "the", "sum", "guess", "check", "trust", "so", "boss", "gain", "lose"]
    both = [str(number) for number in range(arithmetic.LARGEST + 1)]
    both += [*world.FIRST_NAMES, *world.PLACES, *world.ATTRIBUTES, *(word for word, _ in world.ATTRIBUTES.values())]
    bare += arithmetic.THINGS
    spaced += [*arithmetic.DIGIT_WORDS[1:], *(f"{change:+d}" for change in arithmetic.CHANGES)]
    spaced += [*world.LAST_NAMES, *world.JOBS]
    return [*bare, *both, *(f" {word}" for word in [*spaced, *both])]


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, with its Qwen-style chat template."""
    words = [_UNKNOWN, *vocabulary()]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=_UNKNOWN))
    longest_first = sorted(vocabulary(), key=lambda word: (-len(word), word))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(map(_quoted, longest_first))), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIAL])
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=_UNKNOWN,
        pad_token="<|endoftext|>",
        eos_token=END_OF_TURN,
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=256,
    )


def _quoted(word: str) -> str:
    # re.escape also escapes the space and the newline, which this regular-expression engine reads literally.
    return "".join(character if character in " \n" else re.escape(character) for character in word)
