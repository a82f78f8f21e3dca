"""Tiny BERT, CLIP and Llama models with random weights, as folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, LlamaConfig, LlamaModel

from prefdelta.experiments.suites.backbone.bert import build_bert, train_tokenizer
from prefdelta.experiments.suites.data.rows import Pair
from prefdelta.recipe.suite import BertBackbone


def write_bert(folder: Path, texts: Sequence[Pair]) -> Path:
    """A BERT of one layer."""
    settings = BertBackbone(type="bert", vocabulary=60, max_length=32, hidden=16, layers=1, heads=2, mlp=16)
    words = train_tokenizer(texts, settings)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    build_bert(settings, len(words)).save_pretrained(folder)
    return folder


def write_clip(folder: Path, texts: Sequence[Pair]) -> Path:
    """A CLIP of one layer for 16×16 images; features of 8 numbers."""
    words = train_tokenizer(texts, BertBackbone(type="bert", vocabulary=60, max_length=16))
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, eos_token_id=words.sep_token_id, bos_token_id=2, pad_token_id=0, projection_dim=8,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_llama(folder: Path, texts: Sequence[Pair]) -> Path:
    """A Llama of one layer."""
    words = train_tokenizer(texts, BertBackbone(type="bert", vocabulary=60, max_length=32))
    words.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(folder)
    return folder
