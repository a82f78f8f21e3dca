"""Search protocols: what a turn asks for, what is shown, how a question is put."""

from __future__ import annotations

import pytest

from prefdelta.agent import Action, protocol_of
from prefdelta.agent.environment import Environment, shortened
from prefdelta.agent.protocols import query, resolved
from prefdelta.agent.retrieval import Bm25Index
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Document, Item
from prefdelta.recipe import Questions, Search, configure
from tiny import tiny_tokenizer

CORPUS = [
    Document("oslo", "mia was born in oslo", title="Mia"),
    Document("lima", "leo was born in lima", title="Leo"),
]


def test_query_is_the_text_of_the_last_search() -> None:
    assert query("a <search> mia stone </search>") == "mia stone"
    assert query("<search>x</search> <search>y\n</search>\n") == "y"
    assert query("nothing opened</search>") == ""
    assert query("<search></search>") == ""


def test_observation_formats() -> None:
    assert protocol_of("plain").observe(CORPUS[:1], 1) == "<information>mia was born in oslo</information>"
    assert protocol_of("plain").observe([], 1) == "<information></information>"
    assert protocol_of("plain").observe(CORPUS, 3) == (
        "\n\n<information>Doc 1(Title: Mia) mia was born in oslo\nDoc 2(Title: Leo) leo was born in lima"
        "</information>\n\n"
    )
    assert protocol_of("plain").observe([], 3) == "\n\n<information></information>\n\n"


@pytest.mark.parametrize(
    ("turn", "ended", "expected"),
    [
        ("<think>a</think><search> who? </search>", False, Action("search", "who?")),
        ("<answer> x </answer>", False, Action("done")),
        ("<answer>x</answer> <search>y</search>", False, Action("done")),  # the first action decides
        ("<search>y</search><answer>x</answer>", True, Action("search", "y")),
        ("I think it is x.", True, Action("invalid")),
        ("I think it is", False, Action("invalid")),
        ("who?</search>", False, Action("invalid")),
        ("<search>a<answer>x</answer>", False, Action("done")),
        ("<search>a\nb</search>", False, Action("search", "a\nb")),
    ],
)
def test_search_r1_reads_a_turn_as_the_reference_does(turn: str, ended: bool, expected: Action) -> None:
    assert protocol_of("search_r1").read(turn, ended) == expected


@pytest.mark.parametrize(
    ("turn", "ended", "expected"),
    [
        ("<search>a</search> no <search> b </search>", False, Action("search", "b")),
        ("<search>a</search><answer>x</answer>", False, Action("done")),
        ("that is all", True, Action("done")),
        ("that is", False, Action("cut")),
    ],
)
def test_pda_reads_answers_first_and_then_the_last_search(turn: str, ended: bool, expected: Action) -> None:
    assert protocol_of("pda").read(turn, ended) == expected


def test_search_r1_writes_what_the_reference_writes() -> None:
    protocol = protocol_of("search_r1")
    assert protocol.observe(CORPUS[:1], 3) == (
        "\n\n<information>Doc 1(Title: Mia) mia was born in oslo</information>\n\n"
    )
    assert protocol.correction.startswith("\nMy previous action is invalid. If I want to search, I should")
    assert protocol.correction.endswith("Let me try again.\n")
    assert protocol.closings == ("</search>", "</answer>")


@pytest.mark.parametrize("asked", ["who is mia", "who is mia? ", " who is mia?"])
def test_search_r1_asks_with_a_question_mark(asked: str) -> None:
    system = {"role": "system", "content": "s"}
    item = protocol_of("search_r1").dressed(Item("i", "t", (system, {"role": "user", "content": asked}), ("x",)))
    assert item.messages[0] == system
    assert item.messages[1]["content"].endswith("For example, <answer> Beijing </answer>. Question: who is mia?\n")
    assert item.answers == ("x",)


def test_plain_leaves_a_question_as_it_is() -> None:
    item = Item("i", "t", ({"role": "user", "content": "who {question}"},))
    assert protocol_of("plain").dressed(item) == item


def test_presets_are_defaults_that_a_recipe_can_change() -> None:
    r1 = resolved(Search(corpus="x.jsonl", protocol="search_r1"))
    assert (r1.top_k, r1.max_turns, r1.turn_tokens, r1.observation_tokens, r1.window) == (3, 4, 500, 500, 4096)
    pda = resolved(Search(corpus="x.jsonl", protocol="pda", top_k=10))
    assert (pda.top_k, pda.max_turns, pda.turn_tokens, pda.passage_tokens, pda.window) == (10, 5, 2048, 500, None)
    plain = resolved(Search(corpus="x.jsonl"))
    assert (plain.top_k, plain.max_turns, plain.max_words, plain.turn_tokens) == (3, 5, 350, None)
    assert resolved(Search.model_validate(pda.model_dump())) == pda
    with pytest.raises(PrefdeltaError, match="there is no search protocol 'search-r1'; did you mean 'search_r1'"):
        resolved(Search(corpus="x.jsonl", protocol="search-r1"))


def test_texts_are_cut_by_tokens_and_never_inside_a_character() -> None:
    tokenizer = tiny_tokenizer()
    text = "é" * 10  # two byte tokens each
    assert [shortened(text, tokenizer, limit) for limit in (None, 20, 7, 6, 1)] == [text, text, "ééé", "ééé", ""]


def test_passages_and_observations_keep_their_limits() -> None:
    tokenizer = tiny_tokenizer()
    search = Search(corpus="", protocol="pda", top_k=2, passage_tokens=4, observation_tokens=20)
    (shown,) = Environment(Bm25Index(CORPUS, top_k=2), search).look_up(["born"], tokenizer)
    whole = protocol_of("pda").observe([Document("", "mia ", "Mia"), Document("", "leo ", "Leo")], 2)
    assert shown == shortened(whole, tokenizer, 20)
    assert len(shown) < len(whole)


def test_search_benchmarks_have_names() -> None:
    questions = configure(Questions, {"source": "flashrag:hotpotqa", "max_characters": 900}, origin="recipe")
    assert (questions.source, questions.config, questions.split) == ("RUC-NLPIR/FlashRAG_datasets", "hotpotqa", "dev")
    assert (questions.format, questions.answer, questions.max_characters) == ("huggingface", "golden_answers", 900)
    assert configure(Questions, questions.model_dump(), origin="recipe") == questions
    with pytest.raises(PrefdeltaError, match="no search benchmark is called 'hotpot'"):
        configure(Questions, {"source": "flashrag:hotpot"}, origin="recipe")
