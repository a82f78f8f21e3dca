"""A recipe: the whole configuration of a run, from one YAML file.

Every model here refuses unknown keys and names the nearest known one, because a misspelt key that is silently
ignored changes a result without a trace. Relative paths in a recipe are relative to the recipe's own folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from prefdelta.errors import PrefdeltaError
from prefdelta.records import Message

Objective = Literal["dpo", "orpo", "sft"]
Control = Literal["sft", "shuffled", "reversed"]
_NAME = r"^[a-z0-9][a-z0-9._-]*$"


class Config(BaseModel):
    """Base of all recipe models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyConfig = TypeVar("AnyConfig", bound=Config)


class ModelRef(Config):
    """A model: a Hugging Face id or folder, ``micro:NAME`` (embedded), or a folder in another ``format``.

    A plain string in a recipe is its ``path``.
    """

    path: str
    revision: str | None = None
    format: Literal["huggingface", "llama2c"] = "huggingface"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    thinking: bool = False
    trust_remote_code: bool = False


class Imported(Config):
    """Answers that already exist, instead of a model to sample: ``path`` in one of the known ``format`` s."""

    path: str
    format: Literal["samples", "mmlu-pro"]


def _as_source(value: Any) -> Any:
    if isinstance(value, str):
        return ModelRef(path=value)
    if isinstance(value, Mapping):
        return Imported(**value) if value.get("format") in ("samples", "mmlu-pro") else ModelRef(**value)
    return value


Source = Annotated[ModelRef | Imported, BeforeValidator(_as_source)]
Model = Annotated[ModelRef, BeforeValidator(lambda value: ModelRef(path=value) if isinstance(value, str) else value)]


class Questions(Config):
    """Where questions come from; used for training prompts and for benchmarks alike.

    ``source`` is ``micro:NAME``, a ``.jsonl`` file of items, an MMLU-Pro output file (``format: mmlu-pro``), or a
    data set on the Hugging Face Hub (``format: huggingface``, with ``question`` and ``answer`` naming its columns).
    ``choices`` names a column that lists the options, or one column per option, among them ``answer``. Without a
    ``split`` a file is taken whole, and of a data set its ``train`` split.
    Questions whose whole prompt has more than ``max_characters`` are left out: a student's context may be short.
    """

    source: str
    format: Literal["items", "mmlu-pro", "huggingface"] = "items"
    config: str | None = None
    split: str | None = None
    question: str = "question"
    answer: str | None = None
    aliases: str | None = None
    choices: str | tuple[str, ...] | None = None
    revision: str | None = None
    system: str | None = None
    examples: tuple[Message, ...] = ()
    template: str = "{question}"
    max_characters: int | None = Field(default=None, gt=0)


class Prompts(Questions):
    """Training prompts: ``count`` questions, drawn without replacement with ``seed`` where there are more."""

    count: int = Field(gt=0)
    seed: int = 0


class Sampling(Config):
    """How answers are drawn. ``max_new_tokens`` bounds one turn; temperature 0 is greedy."""

    temperature: float = Field(default=0.7, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=1024, gt=0)
    batch_size: int = Field(default=16, gt=0)
    seed: int = 0


class Search(Config):
    """The search environment: ``top_k`` passages of ``corpus`` per query, at most ``max_turns`` queries.

    ``corpus`` is ``micro:corpus`` or a ``.jsonl`` file of documents. A passage is cut after ``max_words`` words.
    """

    corpus: str
    top_k: int = Field(default=3, gt=0)
    max_turns: int = Field(default=5, gt=0)
    max_words: int = Field(default=350, gt=0)


class Filters(Config):
    """Which pairs are dropped. Identical answers always are.

    ``format`` must hold of the chosen answer only (PDA section 5.1): ``answer-tags`` asks for exactly one well-formed
    ``<answer>`` at the end and well-formed searches before it; ``finished`` asks that the model ended its turn.
    """

    format: Literal["answer-tags", "finished"] | None = None


class Delta(Config):
    """One preference delta: what ``weak`` answers is preferred over what ``weaker`` answers."""

    name: str = Field(pattern=_NAME)
    weak: Source
    weaker: Source


class Lora(Config):
    """The adapter's shape. ``shared_init`` gives every delta the same random A (it matters to GAM)."""

    r: int = Field(default=64, gt=0)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    shared_init: bool = False


class Training(Config):
    """How one adapter is trained. ``batch_size`` is the number of pairs per optimiser step."""

    objective: Objective = "dpo"
    beta: float = Field(default=0.1, gt=0)
    nll_scope: Literal["completion", "full"] = "completion"
    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=128, gt=0)
    micro_batch_size: int = Field(default=4, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(default=8192, gt=0)
    gradient_checkpointing: bool = False
    checkpoint_steps: int = Field(default=20, gt=0)
    lora: Lora = Lora()


class Merge(Config):
    """Which merges are made, and the scales λ that validation chooses among."""

    methods: tuple[str, ...] = ("average", "gam", "gam-orthonormal", "gam-norm-matched")
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)

    @model_validator(mode="after")
    def _scale_one_is_reported(self) -> Merge:
        if 1.0 not in self.scales:
            raise ValueError("scales must contain 1.0, which is always reported beside the chosen scale")
        return self


class Benchmark(Config):
    """One evaluation task. Validation chooses λ and method; only ``test`` items are reported.

    The two sets never share an item: they are different splits of the source, or, where only one split exists,
    ``validation`` items are drawn from it first and ``test`` items from the rest.
    """

    name: str = Field(pattern=_NAME)
    questions: Questions
    scorer: Literal["exact-match", "final-number", "choice", "token-f1"] = "exact-match"
    validation_split: str | None = None
    validation: int = Field(default=200, ge=0)
    test: int = Field(default=500, gt=0)


class Domain(Config):
    """One line of the experiment: its prompts, its deltas, one merge of them, its benchmarks."""

    prompts: Prompts
    deltas: tuple[Delta, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()
    search: Search | None = None
    filters: Filters = Filters()
    training: Training = Training()
    evaluation_sampling: Sampling | None = None
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Domain:
        for kind, names in (("delta", self.deltas), ("benchmark", self.benchmarks)):
            seen = [entry.name for entry in names]
            twice = sorted({name for name in seen if seen.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} name {twice[0]!r} is used twice; names must differ")
        return self


class Recipe(Config):
    """A whole run. ``seeds`` are training seeds: each gives one adapter per delta and one merge per method."""

    name: str = Field(pattern=_NAME)
    description: str = ""
    student: Model
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    domains: dict[str, Domain] = Field(min_length=1)
    merge: Merge = Merge()
    controls: tuple[Control, ...] = ()
    control_seeds: tuple[int, ...] | None = None
    evaluate_weak: bool = True


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    File paths inside that start with ``./`` or ``../`` are made absolute against the recipe's folder.

    Args:
        path: the YAML file.
        settings: changes to it, each ``dotted.key=value`` with the value in YAML.

    Raises:
        PrefdeltaError: the file is missing, is no YAML mapping, or a key or value is wrong; the message names the
            key by its dotted path and, for an unknown key, the nearest known one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PrefdeltaError(f"no recipe at {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PrefdeltaError(f"cannot read the recipe {path}: {error}.") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrefdeltaError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(raw, dict):
        raise PrefdeltaError(f"{path} holds no mapping of recipe keys; see docs/recipes.md.")
    raw.pop("x-shared", None)  # a place for YAML anchors
    for setting in settings:
        raw = _with_setting(raw, setting)
    return configure(Recipe, _absolute(raw, path.resolve().parent), origin=str(path))


def settings_mapping(settings: Sequence[str]) -> dict[str, Any]:
    """The mapping that a list of ``dotted.key=value`` settings spells out."""
    raw: dict[str, Any] = {}
    for setting in settings:
        raw = _with_setting(raw, setting)
    return raw


def configure(model: type[AnyConfig], raw: Mapping[str, Any], *, origin: str) -> AnyConfig:
    """Validate a mapping as one of the models of this module; ``origin`` names it in error messages.

    Raises:
        PrefdeltaError: a key or value is wrong.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise PrefdeltaError(f"{origin}: {_first_problem(error, model)}") from error


def _with_setting(raw: Mapping[str, Any], setting: str) -> dict[str, Any]:
    key, separator, text = setting.partition("=")
    if not separator or not key:
        raise PrefdeltaError(f"--set {setting!r} is not of the form key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrefdeltaError(f"--set {setting!r}: the value is not valid YAML.") from error
    first, _, rest = key.partition(".")
    if not rest:
        return {**raw, first: value}
    inner = raw.get(first, {})
    if not isinstance(inner, Mapping):
        raise PrefdeltaError(f"--set {setting!r}: {first!r} holds no further keys.")
    return {**raw, first: _with_setting(inner, f"{rest}={text}")}


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key often makes the right one "missing" as well; the misspelling is what to tell.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(key, sorted(_known_keys(model) - {key}), n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"unknown key {where!r}{hint}{others}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where or 'recipe'}: {message[0].lower() + message[1:]}.{others}"


def _known_keys(root: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    pending: list[type[BaseModel]] = [root]
    while pending:
        for name, info in pending.pop().model_fields.items():
            keys.add(name)
            pending.extend(_models_in(info.annotation))
    return keys


def _models_in(annotation: Any) -> Sequence[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


_PATH_KEYS = ("path", "source", "corpus", "student", "weak", "weaker")


def _absolute(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _absolute(entry, folder, str(name)) for name, entry in value.items()}
    if isinstance(value, list):
        return [_absolute(entry, folder, key) for entry in value]
    if isinstance(value, str) and key in _PATH_KEYS and value.startswith(("./", "../")):
        return str((folder / value).resolve())
    return value
