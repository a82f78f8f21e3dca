"""Tiny Qwen3 models with random weights, and a byte-level tokenizer with a Qwen-like chat template."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

TAGS = ("<search>", "</search>", "<information>", "</information>", "<answer>", "</answer>")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# As Qwen3's: an empty thought is written out unless thinking is on.
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false -%}
<think>

</think>

{% endif -%}
{%- endif -%}"""


def tiny_tokenizer(*, tags: bool = True) -> PreTrainedTokenizerFast:
    """Bytes plus a few merges; with ``tags`` the search and answer tags are one token each, else plain text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "n"), ("an", "s"), ("t", "h"), ("th", "e"), ("<", "/"), (">", "Ċ"), (">", "\u0120")]
    vocabulary = {token: number for number, token in enumerate(alphabet + ["".join(merge) for merge in merges])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    if tags:
        tokenizer.add_tokens([AddedToken(tag, special=False) for tag in TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(
    seed: int = 0, *, vocabulary: int | None = None, hidden: int = 32, spread: float = 0.4
) -> Qwen3ForCausalLM:
    """Two layers of Qwen3 with random weights; a larger ``spread`` gives less uniform predictions."""
    config = Qwen3Config(
        vocab_size=vocabulary or len(tiny_tokenizer()),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=1024,
        initializer_range=spread,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).eval()
