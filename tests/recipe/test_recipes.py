"""The shipped recipes, and that a recipe's mistakes are told in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from prefdelta.agent.protocols import resolved
from prefdelta.core.errors import PrefdeltaError
from prefdelta.evaluation.benchmarks import benchmark_items
from prefdelta.experiments.kinds import plan_for
from prefdelta.generation.prompts import draw_prompts
from prefdelta.recipe import Domain, Imported, Named, Recipe, load_recipe
from prefdelta.training.objectives import loss_of

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = sorted((REPOSITORY / "recipes").glob("*.yaml"))
PDA = [REPOSITORY / "recipes" / f"pda-{domain}-qwen3-8b.yaml" for domain in ("reasoning", "search")]


def only_domain(path: Path) -> Domain:
    recipe = load_recipe(path)
    assert isinstance(recipe, Recipe)
    (domain,) = recipe.domains.values()
    return domain


def models(domain: Domain) -> list[tuple[str, str, str]]:
    return [(delta.name, delta.weak.path, delta.weaker.path) for delta in domain.deltas]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_named_like_its_file_says_what_it_is_and_can_be_planned(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.description
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert plan_for(recipe, tmp_path / "run").units
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", PDA, ids=lambda path: path.stem)
def test_pda_hyper_parameters_are_those_of_table_5(path: Path) -> None:
    recipe = load_recipe(path)
    assert isinstance(recipe, Recipe)
    training = only_domain(path).training
    assert recipe.student.path == "Qwen/Qwen3-8B"
    assert (loss_of(training).options.model_dump()["beta"], training.learning_rate, training.epochs) == (0.1, 1e-5, 1)
    assert (training.batch_size, training.warmup_ratio, training.max_length) == (128, 0.1, 8192)
    assert training.gradient_checkpointing
    assert (training.lora.r, training.lora.alpha, training.lora.dropout) == (64, 128, 0.05)
    assert training.lora.targets == "all-linear"


def test_pda_reasoning_is_the_papers_experiment() -> None:
    domain = only_domain(PDA[0])
    assert (domain.training.objective.name, domain.filters.format, domain.search) == ("dpo", None, None)
    assert (domain.prompts.source, domain.prompts.split, domain.prompts.count) == ("openai/gsm8k", "train", 7473)
    assert domain.prompts.system is not None
    assert domain.prompts.system.startswith("You are an expert mathematical and logical reasoning assistant. Please")
    assert domain.prompts.examples[-1]["content"].endswith("The final answer is 150.")
    assert models(domain) == [
        ("deepseek-r1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"),
        ("qwen3", "Qwen/Qwen3-4B", "Qwen/Qwen3-1.7B"),
        ("llama-3.2", "meta-llama/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"),
    ]
    assert {benchmark.name for benchmark in domain.benchmarks} == {"math-500", "gpqa", "mmlu", "gsm8k"}
    for benchmark in domain.benchmarks:  # the protocol of training and evaluation is one
        assert benchmark.questions.system == domain.prompts.system
        assert benchmark.questions.examples == domain.prompts.examples


def test_pda_search_is_the_papers_experiment() -> None:
    domain = only_domain(PDA[1])
    loss = loss_of(domain.training)
    assert (loss.name, loss.options.model_dump()["nll_scope"]) == ("orpo", "completion")
    assert (domain.prompts.config, domain.prompts.split, domain.prompts.count) == ("musique", "train", 8000)
    assert domain.filters.format == "answer-tags"
    assert domain.search is not None
    search = resolved(domain.search)
    assert (search.top_k, search.max_turns) == (5, 5)
    assert (domain.sampling.temperature, domain.sampling.top_p, domain.sampling.top_k) == (0.6, 0.95, 20)
    assert [name for name, _, _ in models(domain)] == ["search-r1", "qwen3", "acesearcher", "llama-3.2"]
    assert [benchmark.name for benchmark in domain.benchmarks] == [
        "nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "bamboogle", "musique"
    ]  # fmt: skip
    for benchmark in domain.benchmarks:
        assert (benchmark.scorer, benchmark.questions.config) == (Named(name="token-f1"), benchmark.name)
        assert benchmark.questions.template == domain.prompts.template


@pytest.mark.parametrize("path", PDA, ids=lambda path: path.stem)
def test_pda_benchmarks_never_hold_training_questions(path: Path) -> None:
    domain = only_domain(path)
    trained = (domain.prompts.source, domain.prompts.config, domain.prompts.split)
    for benchmark in domain.benchmarks:
        for split in (benchmark.questions.split, benchmark.validation_split):
            assert (benchmark.questions.source, benchmark.questions.config, split) != trained


def test_real_outputs_reads_real_data_and_keeps_its_splits_apart(shared_data: Path) -> None:
    domain = only_domain(REPOSITORY / "recipes" / "real-outputs.yaml")
    files = [source for delta in domain.deltas for source in (delta.weak, delta.weaker)]
    assert all(isinstance(source, Imported) for source in files)
    local = shared_data / "outputs" / "mmlu_pro" / Path(domain.prompts.source).name
    prompts = draw_prompts(domain.prompts.model_copy(update={"source": str(local)}))
    assert len(prompts) == domain.prompts.count
    (benchmark,) = domain.benchmarks
    benchmark = benchmark.model_copy(
        update={"questions": benchmark.questions.model_copy(update={"source": str(local)})}
    )
    validation, test = benchmark_items(benchmark, "validation"), benchmark_items(benchmark, "test")
    assert (len(validation), len(test)) == (benchmark.validation, benchmark.test)
    ids = [item.id for item in (*prompts, *validation, *test)]
    assert len(set(ids)) == len(ids)
    for item in (*validation, *test):
        assert item.messages[-1]["content"].endswith("Answer: Let's think step by step.")
        assert item.answers[0] in "ABCDEFGHIJ"


MINIMAL = """
name: mine
student: micro:student
domains:
  d:
    prompts: {source: ./q.jsonl, count: 3}
    deltas: [{name: a, weak: ./weak, weaker: {path: ../answers.jsonl, format: samples}}]
    benchmarks: [{name: b, questions: {source: ./t.jsonl}}]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return folder / "mine.yaml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count: 3", "cuont: 3", "unknown key 'domains.d.prompts.cuont'; did you mean 'count'?"),
        ("name: mine", "name: mine\nseed: [1]", "unknown key 'seed'; did you mean 'seeds'?"),
        ("weak: ./weak", "weka: ./weak", "unknown key 'domains.d.deltas.0.weka'; did you mean 'weak'?"),
    ],
)
def test_a_misspelt_key_is_told_even_if_it_is_required_or_known_elsewhere(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(PrefdeltaError) as caught:
        load_recipe(write(tmp_path, MINIMAL.replace(old, new)))
    assert str(caught.value).startswith(f"{tmp_path / 'mine.yaml'}: {message}")


def test_the_example_on_the_page_is_a_recipe(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert yaml.safe_load(example)["name"] == load_recipe(write(tmp_path, example)).name == "my-first"
