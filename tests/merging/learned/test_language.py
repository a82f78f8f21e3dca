"""Learning merges of language models: preference losses, entropies, the null-space ratio, and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lora_fixtures import save_lora
from prefdelta.adapters import Adapter
from prefdelta.adapters.applied import adapted
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.models import LoadedModel
from prefdelta.core.records import Demonstration, Item, Pair, Sample, Span, write_rows
from prefdelta.merging.learned.generative import learn_language_merge, own_answers
from prefdelta.merging.learned.language import check_objective, language_task
from prefdelta.merging.learned.learn import learn
from prefdelta.merging.learned.tasks import mean_objective
from prefdelta.recipe import Sampling
from prefdelta.recipe.learning import LanguageLearning
from prefdelta.training.objectives import OBJECTIVES, loss_of
from prefdelta.training.objectives.base import PAIR
from tiny import tiny_model, tiny_tokenizer

WORDS = ("yes", "no way", "maybe so", "it is", "the end", "never", "an ant", "thus")


def sample(item: str, text: str) -> Sample:
    return Sample(item, (Span(text),), "stop", len(text))


def pairs(count: int, offset: int = 0) -> list[Pair]:
    return [
        Pair(
            f"p{index}",
            "task",
            ({"role": "user", "content": f"question {index + offset}"},),
            sample(f"i{index}", WORDS[(index + offset) % 8]),
            sample(f"i{index}", WORDS[(index + offset + 3) % 8]),
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(tiny_model(0), tiny_tokenizer(), thinking=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    for index in range(2):
        save_lora(tiny_model(0), root / f"a{index}", seed=index, size=0.1, r=2, target_modules=["q_proj", "v_proj"])
    return [root / "a0", root / "a1"]


def settings(objective: str, **changes) -> LanguageLearning:
    given = {"steps": 12, "learning_rate": 0.05, "batch_size": 4, "micro_batch_size": 3, "max_length": 96, **changes}
    return LanguageLearning(objective=objective, **given)


@pytest.mark.parametrize("objective", ["dpo", "dpo-norm", "ipo", "apo-zero", "apo-down", "simpo", "orpo"])
def test_preference_losses_are_the_trainings_own(objective, loaded, folders):
    """At the base the loss has its known value, and the mean over pairs is what a dense computation gives."""
    chosen = settings(objective, batch_size=3)
    task = language_task("held out", pairs(5), loaded, chosen)
    loss = loss_of(chosen)
    at_base = mean_objective(loaded.model, task)
    if loss.at_start is not None:
        assert at_base == pytest.approx(loss.at_start, abs=1e-5)
    with adapted(loaded.model, Adapter.open(folders[0]), fold=False) as model:
        assert abs(mean_objective(model, task) - at_base) > 1e-4


def test_dpo_by_hand(loaded, folders):
    chosen = settings("dpo", beta=0.7)
    task = language_task("held out", pairs(3), loaded, chosen)

    def logp(row, response) -> float:
        ids = torch.tensor([row.prompt + response.ids])
        with torch.no_grad():
            logs = loaded.model(ids).logits[0, :-1].log_softmax(-1)
        own = torch.tensor((0,) * len(row.prompt) + response.own)[1:].bool()
        return float(logs.gather(1, ids[0, 1:, None])[:, 0][own].sum())

    rows = [scored.row for scored in task.data._rows]
    before = [[logp(row, response) for response in row.responses] for row in rows]
    with adapted(loaded.model, Adapter.open(folders[0]), fold=False) as model:
        after = [[logp(row, response) for response in row.responses] for row in rows]
        found = mean_objective(model, task)
    margins = torch.tensor(after) - torch.tensor(before)
    expected = -torch.nn.functional.logsigmoid(0.7 * (margins[:, 0] - margins[:, 1])).mean()
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_token_entropy_by_hand(loaded):
    task = language_task("unlabelled", pairs(3), loaded, settings("entropy"))
    means = []
    for scored in task.data._rows:
        row, response = scored.row, scored.row.responses[0]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([row.prompt + response.ids])).logits[0]
        p = logits.softmax(-1)
        entropy = -(p * p.log()).sum(-1)
        start = len(row.prompt) - 1  # the logits at a place predict the next token
        means.append(float(entropy[start : start + len(response.ids)][torch.tensor(response.own).bool()].mean()))
    assert mean_objective(loaded.model, task) == pytest.approx(sum(means) / len(means), abs=1e-5)


@pytest.mark.parametrize("objective", ["dpo", "entropy", "null-space"])
def test_learning_lowers_the_objective(objective, loaded, folders, tmp_path):
    adapters = [Adapter.open(folder) for folder in folders]
    chosen = settings(objective, steps=8, batch_size=4, micro_batch_size=4, scalarisation="linear")
    tasks = [
        language_task(f"t{index}", pairs(4, 4 * index), loaded, chosen, own=index, adapter=adapters[index])
        for index in range(2)
    ]
    report = learn(loaded.model, adapters, tasks, method="tara-b", folder=tmp_path, settings=chosen)
    assert report.last_total < report.first_total - 1e-5
    with adapted(loaded.model, Adapter.open(tmp_path), fold=False) as model:
        after = sum(mean_objective(model, task) for task in tasks)
    with (
        adapted(loaded.model, Adapter.open(folders[0]), 0.4, fold=False),
        adapted(loaded.model, Adapter.open(folders[1]), 0.4, fold=False),
    ):
        before = sum(mean_objective(loaded.model, task) for task in tasks)
    assert after < before


def test_null_space_needs_the_tasks_own_adapter(loaded):
    with pytest.raises(PrefdeltaError, match="one file per adapter"):
        language_task("t", pairs(2), loaded, settings("null-space"))


def test_one_file_is_one_task_and_a_file_each_is_a_task_each(loaded, folders, tmp_path):
    write_rows(tmp_path / "held.jsonl", pairs(4))
    write_rows(tmp_path / "other.jsonl", pairs(4, 4))
    arguments = {"method": "ada-module", "settings": settings("dpo", steps=3)}
    one = learn_language_merge(loaded, folders, tmp_path / "one", rows=[tmp_path / "held.jsonl"], **arguments)
    assert [(task.name, task.anchor) for task in one.tasks] == [("held", None)]
    files = [tmp_path / "held.jsonl", tmp_path / "other.jsonl"]
    each = learn_language_merge(loaded, folders, tmp_path / "each", rows=files, **arguments)
    assert [task.name for task in each.tasks] == ["a0", "a1"]
    task = language_task("a0", pairs(4), loaded, settings("dpo"), own=0)
    with adapted(loaded.model, Adapter.open(folders[0]), fold=False) as model:
        assert each.tasks[0].anchor == pytest.approx(mean_objective(model, task), abs=1e-6)
    assert Adapter.open(tmp_path / "each").modules == Adapter.open(folders[0]).modules


def test_prompts_are_answered_by_each_adapters_own_model(loaded, folders, tmp_path):
    items = [Item(f"i{index}", "task", ({"role": "user", "content": f"say {index}"},)) for index in range(3)]
    write_rows(tmp_path / "prompts.jsonl", items)
    chosen = settings("entropy", steps=3, sampling=Sampling(max_new_tokens=6, temperature=0.0))
    done: list[tuple[int, int]] = []
    report = learn_language_merge(
        loaded,
        folders,
        tmp_path / "out",
        method="ada-task",
        settings=chosen,
        prompts=[tmp_path / "prompts.jsonl"],
        progress=lambda *told: done.append(told),
    )
    assert [task.name for task in report.tasks] == ["a0", "a1"]
    assert (3, 3) in done
    assert done[-1] == (3, 3)
    texts = []
    for index, folder in enumerate(folders):
        kept = own_answers(loaded, Adapter.open(folder), items, chosen.sampling, tmp_path / "out" / f"answers-{index}")
        fresh = own_answers(loaded, Adapter.open(folder), items, chosen.sampling, tmp_path / f"fresh-{index}")
        assert kept == fresh
        assert len(kept) == 3
        texts.append([answer.response.text for answer in kept])
    assert texts[0] != texts[1]


def test_mistakes(loaded, folders, tmp_path):
    rows, prompts = tmp_path / "pairs.jsonl", tmp_path / "prompts.jsonl"
    write_rows(rows, pairs(3))
    write_rows(prompts, [Item("i", "task", ({"role": "user", "content": "hello"},))])

    def refused(message: str, objective: str = "dpo", **files) -> None:
        with pytest.raises(PrefdeltaError, match=message):
            learn_language_merge(
                loaded, folders, tmp_path / "out", method="tara-b", settings=settings(objective), **files
            )

    refused("give either")
    refused("give either", rows=[rows], prompts=[prompts])
    refused("3 files were given for 2 adapters", rows=[rows, rows, rows])
    refused("learns from pairs", prompts=[prompts])
    refused("does not begin with a pair", rows=[prompts])
    refused("cannot read", rows=[tmp_path / "absent.jsonl"])
    write_rows(tmp_path / "demos.jsonl", [Demonstration("d", "t", pairs(1)[0].prompt, sample("d", "yes"))])
    refused("learns from pairs", rows=[tmp_path / "demos.jsonl"])
    (tmp_path / "text.jsonl").write_text("hello\n")
    refused("text.jsonl, line 1: not valid JSON", rows=[tmp_path / "text.jsonl"])


def test_settings_say_what_they_do_not_know():
    def refused(message: str, **given) -> None:
        with pytest.raises(PrefdeltaError, match=message):
            check_objective(LanguageLearning(**given))

    refused("not learned by the objective 'wrpo'", objective="wrpo")
    refused("not learned by the objective 'sft'", objective="sft")
    refused("did you mean 'dpo-norm'", objective="dpo-nrom")
    refused("did you mean 'entropy'", objective="entrpy")
    refused("objective 'dpo': unknown option 'betta'; did you mean 'beta'", betta=0.1)
    refused("objective 'dpo': unknown option 'step'; did you mean 'steps'", step=3)
    refused("objective 'entropy': unknown option 'beta'", objective="entropy", beta=0.1)
    refused("beta", objective="ipo", beta=0)
    assert loss_of(LanguageLearning(objective="ipo")).options.model_dump()["beta"] == 0.1
    assert loss_of(LanguageLearning(objective="ipo", beta=2)).options.model_dump()["beta"] == 2


def test_every_loss_on_pairs_is_an_objective(loaded, folders):
    """Whatever is registered for pairs, in this package or another, has a finite value that an adapter changes."""
    names = [name for name, entry in OBJECTIVES.items() if entry.responses == PAIR]
    assert {"dpo", "dpo-norm", "ipo", "apo-zero", "apo-down", "simpo", "orpo"} <= set(names)
    for name in names:
        chosen = settings(name)
        check_objective(chosen)
        task = language_task("held out", pairs(3), loaded, chosen)
        before = mean_objective(loaded.model, task)
        with adapted(loaded.model, Adapter.open(folders[0]), fold=False) as model:
            assert mean_objective(model, task) != before


def test_the_log_names_every_task(loaded, folders, tmp_path):
    adapters = [Adapter.open(folder) for folder in folders]
    tasks = [language_task("only", pairs(4), loaded, settings("dpo"))]
    learn(loaded.model, adapters, tasks, method="gam-module", folder=tmp_path, settings=settings("dpo", steps=2))
    lines = [json.loads(line) for line in (tmp_path / "learning.jsonl").read_text().splitlines()]
    assert [set(line["objectives"]) for line in lines] == [{"only"}] * 2
    assert load_file(tmp_path / "coefficients.safetensors").keys() == set(adapters[0].modules)
