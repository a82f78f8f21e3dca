"""Dense search with a tiny BERT encoder: against exact inner products, on disk, and in its two kinds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")
from prefdelta.agent.retrieval import open_retriever
from prefdelta.agent.retrieval.dense import Encoder
from prefdelta.agent.retrieval.factory import build_index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, write_rows
from prefdelta.recipe import Search

WORDS = ["query", "passage", ":", "red", "green", "blue", "round", "flat", "stone", "leaf", "sky", "sea"]
RANDOM = np.random.default_rng(0)
DOCUMENTS = [
    Document(f"d{n}", " ".join(RANDOM.choice(WORDS[3:], size=5)), title=str(RANDOM.choice(WORDS[3:])))
    for n in range(80)
]
QUERIES = ["red stone", "sea sky blue", "", "flat leaf green round"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved by sentence-transformers with mean pooling, as E5 is."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    folder = tmp_path_factory.mktemp("encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(special + WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[bert, Pooling(32, pooling_mode="mean")], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    write_rows(path, DOCUMENTS)
    return path


def test_vectors_are_mean_pooled_unit_vectors_with_e5s_prefixes(encoder: Path) -> None:
    loaded = Encoder(str(encoder))
    vectors = loaded.queries(["red stone", "sea"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    model = BertModel.from_pretrained(encoder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(encoder)
    ids = tokenizer("query: red stone", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        mean = model(input_ids=ids).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(vectors[0], (mean / mean.norm()).numpy(), atol=1e-5)
    passage = loaded.passages([Document("d", "stone", title="red")])
    assert abs(float(passage[0] @ vectors[0])) < 1 - 1e-4


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_the_nearest_passages_are_found(encoder: Path, corpus: Path, tmp_path: Path, kind: str) -> None:
    build_index(tmp_path / "index", str(corpus), encoder=str(encoder), kind=kind)  # type: ignore[arg-type]
    found = open_retriever(Search(corpus=str(tmp_path / "index"), top_k=6)).search_many(QUERIES)
    loaded = Encoder(str(encoder))
    scores = loaded.queries([query for query in QUERIES if query]) @ loaded.passages(DOCUMENTS).T
    best = np.sort(scores, axis=1)[:, ::-1][:, :6]
    rows = [row for row in found if row]
    assert [len(row) for row in found] == [6, 6, 0, 6]
    places = {document.id: number for number, document in enumerate(DOCUMENTS)}
    reached = np.array([[line[places[entry.id]] for entry in row] for line, row in zip(scores, rows, strict=True)])
    np.testing.assert_allclose(reached, best, atol=1e-5)  # ties may come in another order


def test_what_is_missing_or_damaged_is_told(encoder: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "damaged")
    (weights,) = (tmp_path / "damaged").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PrefdeltaError, match=r"cannot load the encoder .*damaged"):
        Encoder(str(tmp_path / "damaged"))
    with pytest.raises(PrefdeltaError, match="cannot load the encoder"):
        build_index(tmp_path / "index", str(corpus), encoder=str(tmp_path / "nowhere"))
