"""Answers and search conversations of real (tiny, random or briefly trained) models."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from chat_tokenizers import PLAIN, byte_level
from prefdelta.agent import Environment, protocol_of
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.chat import completion_ids, decode, encode, end_of_turn_ids, prompt_ids, span_ids
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Document, Item, Sample, Span
from prefdelta.generation.local import TransformersSampler
from prefdelta.generation.request import Request
from prefdelta.generation.turn_end import TurnEnd
from prefdelta.recipe import Sampling, Search
from tiny import tiny_model, tiny_tokenizer

CORPUS = [
    Document("oslo", "mia was born in oslo", title="Mia"),
    Document("lima", "leo was born in lima", title="Leo"),
]


def _item(text: str, number: int = 0) -> Item:
    return Item(id=f"i{number}", task="t", messages=({"role": "user", "content": text},))


ITEMS = [_item("?" * (number % 5), number) for number in range(24)]
REQUESTS = [Request(item, seed=100 + number) for number, item in enumerate(ITEMS)]


@pytest.fixture(scope="module")
def random_model() -> LoadedModel:
    return LoadedModel(tiny_model(seed=3), tiny_tokenizer(), thinking=False)


def _sampler(loaded: LoadedModel, **settings: float) -> TransformersSampler:
    return TransformersSampler(loaded, Sampling(**{"temperature": 1, "max_new_tokens": 24, **settings}))  # type: ignore[arg-type]


def test_answers_depend_on_the_seed_and_not_on_the_batch(random_model: LoadedModel) -> None:
    answers = _sampler(random_model, batch_size=64).sample(REQUESTS)
    assert answers == _sampler(random_model, batch_size=3).sample(REQUESTS)
    assert answers[5:9] == _sampler(random_model, batch_size=64).sample(REQUESTS[5:9])
    other = _sampler(random_model, batch_size=64).sample([Request(item, seed=7) for item in ITEMS])
    assert sum(a.text != b.text for a, b in zip(answers, other, strict=True)) > 20


def test_answers_come_in_the_order_of_requests_and_say_what_they_are(random_model: LoadedModel) -> None:
    answers = _sampler(random_model, batch_size=5).sample(REQUESTS)
    assert [answer.item for answer in answers] == [item.id for item in ITEMS]
    assert {answer.finish for answer in answers} <= {"stop", "length"}
    assert all(answer.tokens == 24 for answer in answers if answer.finish == "length")
    assert all(answer.tokens <= 24 and not answer.thinking for answer in answers)
    thinking = LoadedModel(random_model.model, random_model.tokenizer, thinking=True)
    assert all(answer.thinking for answer in _sampler(thinking).sample(REQUESTS))
    assert _sampler(random_model).sample([]) == []


def test_a_question_that_fills_the_context_is_refused(random_model: LoadedModel) -> None:
    with pytest.raises(PrefdeltaError, match=r"'i0' has .* at most 1024"):
        _sampler(random_model).sample([Request(_item("?" * 1100), 0)])


def test_an_answer_is_cut_where_the_context_ends(random_model: LoadedModel) -> None:
    item = _item("?" * 950)
    length = len(prompt_ids(random_model.tokenizer, item.messages, thinking=False))
    greedy = _sampler(random_model, temperature=0, max_new_tokens=500).sample([Request(item, 0)])[0]
    assert greedy.finish == "length"
    assert greedy.tokens == 1024 - length


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("tail", ["", "\n", " "])
def test_a_search_is_seen_however_its_tag_is_tokenized(tags: bool, tail: str) -> None:
    tokenizer = tiny_tokenizer(tags=tags)
    ids = encode(tokenizer, f"</answer><search>é</ search></search>{tail}")
    over = TurnEnd(tokenizer, [1], ["</search>"])
    seen = [length for length in range(1, len(ids) + 1) if over(ids[:length])]
    overhang = 1 if tags and tail else 0  # with the tag a token of its own, the tail comes after it
    assert seen == [len(ids) - overhang]
    assert not any(TurnEnd(tokenizer, [1])(ids[:length]) for length in range(len(ids) + 1))


def test_a_turn_ends_at_the_text_that_the_template_ends_it_with() -> None:
    tokenizer = byte_level(PLAIN, ())
    over = TurnEnd(tokenizer, [tokenizer.eos_token_id], (), end_of_turn_ids(tokenizer))
    for said in ("four", "### En", ""):
        written = [*encode(tokenizer, said), *end_of_turn_ids(tokenizer)]
        assert [over(written[:length]) for length in range(len(written) + 1)] == [False] * len(written) + [True]
        assert over.stopped(written)
        assert decode(tokenizer, over.said(written)) == said
    assert over.said(encode(tokenizer, "four")) == encode(tokenizer, "four")
    assert over.said([*encode(tokenizer, "four"), tokenizer.eos_token_id]) == encode(tokenizer, "four")


DIALOGUES = {
    # question: the model's turns; the environment's answers go between them.
    "mia": ["<search>mia born</search>", "<answer>oslo</answer>"],
    "leo": ["<search>zzz</search>", "<search> leo born </search>", "<answer>lima</answer>"],
    "sum": ["<answer>2</answer>"],
    "all": ["<search>mia</search>"] * 6,
}
TURNS = 2


R1_DIALOGUES = {
    "mia": ["<search>mia born</search>", "<answer>oslo</answer>"],
    "leo": ["lima", "<search> leo born </search>", "<answer>lima</answer>"],  # the first turn is corrected
    "sum": ["<answer>2</answer>"],
    "all": ["<search>mia</search>"] * 6,
}


def _environment(protocol: str, top_k: int) -> Environment:
    search = Search(corpus="", protocol=protocol, top_k=top_k, max_turns=TURNS)  # type: ignore[arg-type]
    return Environment(Bm25Index(CORPUS, top_k=top_k), search)


def _expected(turns: list[str], environment: Environment) -> Sample:
    protocol = environment.protocol
    spans: list[Span] = []
    for number, turn in enumerate(turns):
        spans.append(Span(turn))
        action = protocol.read(turn, "</" not in turn)
        if number == len(turns) - 1 or number == TURNS:
            break
        found = environment.retriever.search_many([action.query])[0]
        shown = protocol.observe(found, environment.settings.top_k) if action.kind == "search" else protocol.correction
        spans.append(Span(shown, "environment"))
    return Sample("i0", tuple(spans), "length" if len(turns) > TURNS + 1 else "stop", tokens=0)


def _fitted(
    tokenizer: PreTrainedTokenizerBase, dialogues: dict[str, list[str]], environment: Environment
) -> Qwen3ForCausalLM:
    """A tiny model trained until it takes the dialogues' turns; environment tokens are not trained."""
    rows = []
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for question, turns in dialogues.items():
        ids, mask = [], []
        for span in _expected(turns, environment).spans:
            part = span_ids(tokenizer, span)
            if span.source == "model" and not span.text.endswith("</search>"):
                part.append(end)
            ids += part
            mask += [span.source == "model"] * len(part)
        prompt = prompt_ids(tokenizer, _item(question).messages, thinking=False)
        targets = [number if own else -100 for number, own in zip(ids, mask, strict=True)]
        rows.append((prompt + ids, [-100] * len(prompt) + targets))
    width = max(len(ids) for ids, _ in rows)
    inputs = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([targets + [-100] * (width - len(targets)) for _, targets in rows])
    model = tiny_model(seed=0, spread=0.05, hidden=64).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for _ in range(150):
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.02:
            break
    return model.eval()


@pytest.mark.parametrize(
    ("protocol", "tags", "top_k"), [("plain", True, 1), ("plain", False, 2), ("search_r1", True, 1), ("pda", True, 2)]
)
def test_search_conversation_is_exact(protocol: str, tags: bool, top_k: int) -> None:
    tokenizer = tiny_tokenizer(tags=tags)
    dialogues = R1_DIALOGUES if protocol == "search_r1" else DIALOGUES
    environment = _environment(protocol, top_k)
    loaded = LoadedModel(_fitted(tokenizer, dialogues, environment), tokenizer, thinking=False)
    sampling = Sampling(temperature=0, max_new_tokens=80, batch_size=3)
    sampler = TransformersSampler(loaded, sampling, environment)
    answers = sampler.sample([Request(_item(question), seed=0) for question in dialogues])
    for answer, turns in zip(answers, dialogues.values(), strict=True):
        expected = _expected(turns, environment)
        assert (answer.spans, answer.finish) == (expected.spans, expected.finish)
    assert [span.source for span in answers[3].spans] == ["model", "environment"] * TURNS + ["model"]
    if protocol == "plain":
        assert answers[1].spans[1].text.strip() == "<information></information>"
        for answer in answers:
            assert answer.tokens == sum(completion_ids(tokenizer, answer)[1])
    if protocol == "search_r1":
        assert answers[1].spans[1] == Span(protocol_of("search_r1").correction, "environment")


def test_a_turn_is_cut_at_its_limit_and_the_window_slides() -> None:
    """A model that never stops talks in turns of 6 tokens and outgrows its context."""
    tokenizer = tiny_tokenizer()
    loaded = LoadedModel(tiny_model(seed=3), tokenizer, thinking=False)
    search = Search(corpus="", protocol="search_r1", max_turns=130, turn_tokens=6, window=64)
    sampler = TransformersSampler(
        loaded, Sampling(temperature=1, max_new_tokens=50), Environment(Bm25Index(CORPUS, top_k=3), search)
    )
    (answer,) = sampler.sample([Request(_item("?"), seed=1)])
    shown = [span.text for span in answer.spans if span.source == "environment"]
    assert answer.tokens <= 6 * 131
    assert len(shown) == 130
    assert set(shown) == {protocol_of("search_r1").correction}
    assert len(encode(tokenizer, answer.text)) > 1024
