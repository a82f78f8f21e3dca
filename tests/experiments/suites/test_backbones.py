"""Backbones as feature extractors: tiny models of every type, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import BertModel, CLIPModel, PreTrainedTokenizerFast

from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.suites.backbone.bert import (
    encode_pairs,
    encode_texts,
    neighbours,
    pretrain_bert,
    train_tokenizer,
)
from prefdelta.experiments.suites.backbone.clip import write_text_heads
from prefdelta.experiments.suites.backbone.encoder import Head, load_encoder, load_tokenizer, pretrained_head
from prefdelta.experiments.suites.backbone.vit import pool_of, pretrain_vit
from prefdelta.experiments.suites.data.task import Examples
from prefdelta.recipe.models import ModelRef
from prefdelta.recipe.suite import (
    BertBackbone,
    ClipBackbone,
    DecoderBackbone,
    EncoderBackbone,
    Optimisation,
    VitBackbone,
)
from suite_models import write_bert, write_clip, write_llama

PAIRS = [("a red ball", "it is red"), ("the blue sky over there", "it is blue"), ("green grass", "it is not red")] * 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"), PAIRS)


@pytest.mark.parametrize("scaled", [True, False])
def test_clip_heads_and_features_give_clips_own_logits(clip: Path, tmp_path: Path, scaled: bool) -> None:
    backbone = ClipBackbone(
        type="clip", model=ModelRef(path=str(clip), dtype="float32"), image_size=16, logit_scale=scaled
    )
    texts = ["a red ball", "the blue sky"]
    write_text_heads(tmp_path, backbone, {"task": texts})
    encoder = load_encoder(backbone, None)
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        ours = encoder.logits(Head.read(tmp_path / "task.safetensors"))(encoder.model, {"pixel_values": pixels})
        whole = CLIPModel.from_pretrained(clip).eval()
        mean, std = (
            torch.tensor(v).view(3, 1, 1)
            for v in ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        )
        batch = PreTrainedTokenizerFast.from_pretrained(clip)(texts, padding=True, return_tensors="pt")
        theirs = whole(pixel_values=(pixels.float() / 255 - mean) / std, input_ids=batch["input_ids"],
                       attention_mask=batch["attention_mask"]).logits_per_image  # fmt: skip
        expected = theirs if scaled else theirs / whole.logit_scale.exp()
    assert torch.allclose(ours, expected, atol=1e-4)


def test_a_text_encoder_is_read_as_the_mean_over_its_words_whatever_the_padding(tmp_path: Path) -> None:
    write_bert(tmp_path, PAIRS)
    backbone = EncoderBackbone(type="text-encoder", model=ModelRef(path=str(tmp_path)), max_length=16)
    encoder = load_encoder(backbone, None)
    pairs = [("a red ball", "it is blue"), ("the blue sky over there is blue", "a red ball")]
    examples = encode_pairs(load_tokenizer(backbone, None), pairs, [0, 1])
    with torch.no_grad():
        together = encoder.features(encoder.model, examples.inputs)
        for number in range(2):
            length = int(examples.inputs["attention_mask"][number].sum())
            ids = examples.inputs["input_ids"][number : number + 1, :length]
            alone = encoder.model(input_ids=ids).last_hidden_state[0].mean(dim=0)
            assert torch.allclose(alone, together[number], atol=1e-5)


def test_a_language_model_is_read_at_its_last_word_whatever_the_padding(tmp_path: Path) -> None:
    write_llama(tmp_path, PAIRS)
    backbone = DecoderBackbone(type="language-model", model=ModelRef(path=str(tmp_path)), max_length=16)
    encoder = load_encoder(backbone, None)
    examples = encode_texts(load_tokenizer(backbone, None), ["a red ball", "the blue sky over there is blue"], [0, 1])
    with torch.no_grad():
        together = encoder.features(encoder.model, examples.inputs)
        for number in range(2):
            alone = encoder.features(encoder.model, examples.at([number]).inputs)
            length = int(examples.inputs["attention_mask"][number].sum())
            ids = examples.inputs["input_ids"][number : number + 1, :length]
            assert torch.allclose(alone[0], encoder.model(input_ids=ids).last_hidden_state[0, -1], atol=1e-5)
            assert torch.allclose(alone[0], together[number], atol=1e-5)


def test_pretraining_a_text_encoder_lowers_its_loss_and_padding_changes_nothing(tmp_path: Path) -> None:
    settings = BertBackbone(
        type="bert", vocabulary=60, max_length=16, hidden=16, layers=1, heads=2, mlp=16,
        training=Optimisation(steps=60, batch_size=16, learning_rate=1e-2),
    )  # fmt: skip
    pretrain_bert(PAIRS, settings, tmp_path, seed=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5
    assert isinstance(BertModel.from_pretrained(tmp_path / "model"), BertModel)
    encoder = load_encoder(settings, tmp_path)
    examples = encode_pairs(load_tokenizer(settings, tmp_path), PAIRS[:3], [0, 1, 0])
    with torch.no_grad():
        together = encoder.features(encoder.model, examples.inputs)
        alone = encoder.features(encoder.model, examples.at([0]).inputs)
    assert torch.allclose(together[0], alone[0], atol=1e-5)


def test_pretraining_a_vision_transformer_gives_shared_classes_one_vector(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (64,), generator=generator)
    images = (labels * 200)[:, None, None, None].expand(64, 3, 8, 8).to(torch.uint8)
    examples = Examples({"pixel_values": images}, labels)
    pool, classes = pool_of([(("dark", "light"), examples), (("light", "red"), examples)])
    assert classes == ("dark", "light", "red")
    settings = VitBackbone(
        type="vit", image_size=8, patch=4, hidden=16, layers=1, heads=2, mlp=16,
        training=Optimisation(steps=40, batch_size=32, learning_rate=1e-2),
    )  # fmt: skip
    pretrain_vit(pool, classes, settings, tmp_path, seed=0)
    vectors = load_file(tmp_path / "class_vectors.safetensors")["vectors"]
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    head = pretrained_head(tmp_path, ("light", "red"), 0.05)
    assert torch.equal(head.weight, vectors[1:])
    encoder = load_encoder(settings, tmp_path)
    with torch.no_grad():
        features = encoder.features(encoder.model, examples.inputs)
        assert torch.allclose(functional.normalize(features, dim=-1), features)
        assert (pretrained_head(tmp_path, ("dark", "red"), 0.05)(features).argmax(-1) == labels).all()


def test_neighbours_are_sentences_that_follow_one_another() -> None:
    assert list(neighbours("One day. Two! Three? Four.\nFive. Six")) == [("One day.", "Two!"), ("Three?", "Four.")]


def test_a_backbone_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrefdeltaError, match=r"cannot load the backbone|no model folder"):
        load_encoder(ClipBackbone(type="clip", model=ModelRef(path=str(tmp_path / "none"))), None)


def test_the_same_texts_give_the_same_tokenizer() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [letters[i] + letters[j] + letters[(i * j) % 26] for i in range(26) for j in range(26)]
    pairs = [(f"{left} is {right}", f"not {right}") for left, right in zip(names, reversed(names), strict=True)]
    settings = BertBackbone(type="bert", vocabulary=150)
    found = [train_tokenizer(pairs, settings) for _ in range(4)]
    first = found[0].get_vocab()
    assert len(first) == 150
    assert all(other.get_vocab() == first for other in found)
    assert found[0].decode(found[0]("not is")["input_ids"], skip_special_tokens=True) == "not is"
