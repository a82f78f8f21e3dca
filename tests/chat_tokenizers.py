"""Small tokenizers with the chat templates that models come with: byte-level and SentencePiece-like."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n'"
    " + m.content|trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n'"
    " + m.content|trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported') }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{{ '### ' + m.role + ':\n' + m.content + '\n### End\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)

TEMPLATES = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama3": (LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    "gemma": (GEMMA, ("<start_of_turn>", "<end_of_turn>")),
    "mistral": (MISTRAL, ("[INST]", "[/INST]")),
    "plain": (PLAIN, ()),
}
CONTENT = ("<think>", "</think>", "<search>", "</search>", "<information>", "</information>", "<tool_call>")


def byte_level(template: str, tokens: tuple[str, ...], *, special: bool = True) -> PreTrainedTokenizerFast:
    """Bytes with a few merges, as GPT-2's and its followers'."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "n"), ("|", ">"), ("<", "|"), ("t", "h"), ("Ċ", "Ċ")]
    vocabulary = {token: number for number, token in enumerate(alphabet + ["".join(merge) for merge in merges])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return _dressed(core, template, tokens, special)


def sentence_piece(template: str, tokens: tuple[str, ...], *, special: bool = True) -> PreTrainedTokenizerFast:
    """Pieces behind a space that is put before every text, and bytes for what has none, as Llama-2's."""
    letters = ["▁", *map(chr, range(33, 127)), "é", "数", "\n"]
    pieces = ["<unk>", *(f"<0x{number:02X}>" for number in range(256)), *letters, "▁a", "▁the", "an", "|>", "</", "s>"]
    merges = [("▁", "a"), ("a", "n"), ("|", ">"), ("<", "/"), ("s", ">")]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _dressed(core, template, tokens, special)


def _dressed(core: Tokenizer, template: str, tokens: tuple[str, ...], special: bool) -> PreTrainedTokenizerFast:
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<s>", "</s>")])
    add = core.add_special_tokens if special else core.add_tokens
    add([AddedToken(token, special=special, normalized=False) for token in tokens])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in CONTENT])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = template
    return fast


def all_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Every template on both kinds, with control tokens that are special and that are only added."""
    return {
        f"{name}-{kind.__name__}-{'special' if special else 'added'}": kind(template, tokens, special=special)
        for name, (template, tokens) in TEMPLATES.items()
        for kind in (byte_level, sentence_piece)
        for special in (True, False)
    }
