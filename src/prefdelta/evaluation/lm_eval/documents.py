"""The documents of our own lm_eval tasks, from the Hugging Face Hub or from local files.

Every document is ``{"id", "subject", "question", "prompt", "answer"}``: ``prompt`` is what is asked, with options and
the sentence that says how to answer. The functions are lm_eval's ``custom_dataset``; a local copy is named by the
recipe's ``lm_eval.data`` (on lm_eval's command line: ``--metadata '{"data": "PATH"}'``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefdelta.core.compression import suffix_of
from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.files import expanded
from prefdelta.core.jsonl import read_json, read_objects
from prefdelta.generation.datasets import mmlu_pro as mmlu_pro_files
from prefdelta.generation.datasets.choices import letters, with_options

SPLIT = "test"

_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_LETTER = 'Think step by step, then finish with "The answer is (X)", where X is the letter of the right option.'
_SENTENCE = 'Think step by step, then finish with "The answer is X.", where X is the answer.'
_ARC_OPTION = re.compile(r"Answer(\d): ")

Row = Mapping[str, Any]


def gsm8k(data: str | None = None, **_: Any) -> Any:
    """GSM8K: grade-school problems (Cobbe et al. 2021), 1,319 in the test split."""
    rows = _rows(data, "openai/gsm8k", "main", "test")
    return _dataset(
        _document(str(number), "", row["question"], _BOXED, str(row["answer"]).rpartition("####")[2].strip())
        for number, row in enumerate(rows)
    )


def math500(data: str | None = None, **_: Any) -> Any:
    """MATH-500: the 500 test problems of Lightman et al. 2023."""
    rows = _rows(data, "HuggingFaceH4/MATH-500", None, "test")
    return _dataset(
        _document(str(row.get("unique_id", number)), str(row.get("subject", "")), row["problem"], _BOXED, row["answer"])
        for number, row in enumerate(rows)
    )


def gpqa(data: str | None = None, subset: str = "gpqa_diamond", **_: Any) -> Any:
    """GPQA (Rein et al. 2023). A question's options come in the order of a hash of question and option."""

    def read(row: Row) -> dict[str, str]:
        question = str(row["Question"]).strip()
        names = ["Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3))]
        options = sorted((str(row[name]).strip() for name in names), key=lambda option: _key(question, option))
        right = options.index(str(row["Correct Answer"]).strip())
        return _choice(str(row.get("Record ID", _key(question, "")[:6].hex())), "", question, options, right)

    return _dataset(map(read, _rows(data, "Idavidrein/gpqa", subset, "train")))


def mmlu(data: str | None = None, **_: Any) -> Any:
    """MMLU (Hendrycks et al. 2021): 14,042 questions with four options in 57 subjects."""
    rows = _rows(data, "cais/mmlu", "all", "test")
    return _dataset(
        _choice(str(number), str(row.get("subject", "")), str(row["question"]), row["choices"], int(row["answer"]))
        for number, row in enumerate(rows)
    )


def mmlu_pro(data: str | None = None, **_: Any) -> Any:
    """MMLU-Pro (Wang et al. 2024): 12,032 questions with up to ten options. Reads the published output files too."""

    def read(row: Row) -> dict[str, str]:
        options = [str(option) for option in row["options"]]
        right = letters(len(options)).index(str(row["answer"]))
        return _choice(str(row["question_id"]), str(row["category"]), str(row["question"]), options, right)

    if data is not None and data.endswith(".zip"):
        return _dataset(map(read, mmlu_pro_files.load(Path(data))))
    return _dataset(map(read, _rows(data, "TIGER-Lab/MMLU-Pro", None, "test")))


def arc(data: str | None = None, subset: str = "ARC-Challenge", **_: Any) -> Any:
    """ARC (Clark et al. 2018). Reads the files of the LLM-Adapters project too."""

    def read(pair: tuple[int, Row]) -> dict[str, str]:
        number, row = pair
        if "instruction" in row:
            return _from_instruction(number, row)
        options, labels = list(row["choices"]["text"]), list(row["choices"]["label"])
        return _choice(str(row["id"]), "", str(row["question"]), options, labels.index(row["answerKey"]))

    return _dataset(map(read, enumerate(_rows(data, "allenai/ai2_arc", subset, "test"))))


def bbh(data: str | None = None, **_: Any) -> Any:
    """BIG-Bench Hard (Suzgun et al. 2022): all of its 27 tasks, each document with its task as ``subject``."""

    return _dataset(
        _document(f"{subject}-{number}", subject, str(row["input"]), _SENTENCE, str(row["target"]).strip())
        for subject, rows in _subjects(data)
        for number, row in enumerate(rows)
    )


def micro(task: str, count: int = 500, split: str = "test", **_: Any) -> Any:
    """One of the embedded reasoning tasks."""
    from prefdelta import micro as embedded

    return _dataset(
        _document(item.id, item.task, item.messages[-1]["content"], "", item.answers[0])
        for item in embedded.items(task, split=split, count=count)
    )


def _document(number: str, subject: str, question: str, how: str, answer: str, asked: str = "") -> dict[str, str]:
    """``asked`` is the question with its options, ``how`` says in which form to answer."""
    prompt = "\n\n".join(filter(None, (asked or question, how)))
    return {"id": number, "subject": subject, "question": question, "prompt": prompt, "answer": answer}


def _choice(number: str, subject: str, question: str, options: Sequence[str], right: int) -> dict[str, str]:
    answer = letters(len(options))[right]
    return _document(number, subject, question, _LETTER, answer, with_options(question, options))


def _from_instruction(number: int, row: Row) -> dict[str, str]:
    """``... question: QUESTION\\n\\nAnswer1: ... Answer2: ...\\n\\nAnswer format: ...`` with ``answer`` ``answerN``."""
    body = str(row["instruction"]).partition("question: ")[2].rpartition("\n\nAnswer format")[0]
    question, _, rest = body.rpartition("\n\nAnswer1: ")
    options = [option.strip() for option in _ARC_OPTION.split("Answer1: " + rest)[2::2]]
    right = int(str(row["answer"]).removeprefix("answer")) - 1
    if not question or not 0 <= right < len(options):
        raise PrefdeltaError(f"ARC document {number} is not in LLM-Adapters' form.")
    return _choice(str(number), "", question, options, right)


def _subjects(data: str | None) -> Iterator[tuple[str, Sequence[Row]]]:
    if data is None:
        import datasets

        for subject in datasets.get_dataset_config_names("lukaemon/bbh"):
            yield subject, list(datasets.load_dataset("lukaemon/bbh", subject, split="test"))
        return
    path = expanded(data)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise PrefdeltaError(f"{data} holds no .json file of BIG-Bench Hard.")
    for file in files:
        yield file.stem, _local(file)


def _rows(data: str | None, hub: str, config: str | None, split: str) -> Iterable[Row]:
    if data is not None:
        return _local(expanded(data))
    import datasets

    return datasets.load_dataset(hub, config, split=split)


def _local(path: Path) -> list[Row]:
    """The rows of a ``.jsonl``, ``.json`` (a list, or a mapping with ``examples``), ``.csv`` or ``.parquet`` file."""
    try:
        if path.suffix in (".csv", ".parquet"):
            import datasets

            return list(datasets.load_dataset(path.suffix[1:], data_files=str(path), split="train"))
        if suffix_of(path) == ".jsonl":
            return [row for _, row in read_objects(path)]
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise PrefdeltaError(f"cannot read the task data {path}: {error}.") from error
    rows = value["examples"] if isinstance(value, dict) and "examples" in value else value
    if not isinstance(rows, list) or not rows:
        raise PrefdeltaError(f"the task data {path} holds no list of documents.")
    return rows


def _dataset(rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    import datasets

    return {SPLIT: datasets.Dataset.from_list([dict(row) for row in rows])}


def _key(question: str, option: str) -> bytes:
    return hashlib.sha256(f"{question}\n{option}".encode()).digest()
