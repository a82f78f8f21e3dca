"""How to use a merged adapter: Python that loads it with PEFT, and the vLLM command that serves it."""

from __future__ import annotations

import json
import shlex

_MICRO = "micro:"


def peft_code(base: str, adapter: str) -> str:
    """Python that puts an adapter on its base model and asks it something.

    Args:
        base: the base model: a Hub id, a folder, or ``micro:NAME`` for one of the embedded models.
        adapter: the adapter's folder, or its Hub id.
    """
    embedded = base.startswith(_MICRO)
    loaded = f"model_path({_quoted(base.removeprefix(_MICRO))})" if embedded else _quoted(base)
    imports = "from prefdelta.micro import model_path\n" if embedded else ""
    return f"""\
from peft import PeftModel
{imports}from transformers import AutoModelForCausalLM, AutoTokenizer

base = {loaded}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), {_quoted(adapter)})
messages = [{{"role": "user", "content": "What is 2 + 3?"}}]
asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**asked, max_new_tokens=64)[0, asked["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""


def vllm_command(base: str, name: str, adapter: str, rank: int) -> str:
    """The command that serves an adapter beside its base model; requests for the model ``name`` reach the adapter.

    Args:
        base: the base model; the embedded models are too small to be served and have no command (an empty text).
        name: what the adapter is called.
        adapter: the adapter's folder.
        rank: a value of ``--max-lora-rank`` that holds the adapter.
    """
    if base.startswith(_MICRO):
        return ""
    module = shlex.quote(f"{name}={adapter}")
    return f"vllm serve {shlex.quote(base)} --enable-lora --max-lora-rank {rank} --lora-modules {module}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
