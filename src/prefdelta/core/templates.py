"""Chat templates: rendering conversations within bounds, and what a template writes around messages.

A chat template is a program that comes with a model. It is run in Jinja's sandbox, which keeps it from files and code
but not from endless loops or huge strings: so each template first renders a few short conversations in a process of
its own, whose time and memory are limited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from prefdelta.core.errors import PrefdeltaError
from prefdelta.core.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Digits, because templates may change the case of letters; a template that alters them cannot be looked into.
_SYSTEM, _ASKED, _ANSWERED, _NEXT = "70391846", "81402957", "92513068", "60284735"
_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
_LIMITS = {"cpu_seconds": 3, "memory_bytes": 2**30, "characters": 2**22}
_TIMEOUT = 60.0  # seconds of wall time, on a machine with other work to do
_UNBOUNDED = 3  # the exit code of a rendering that outgrew its memory

_TRIAL = r"""
import json, re, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]  # an isolated Python sees no packages of a user's own folder
from jinja2.sandbox import ImmutableSandboxedEnvironment
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (given["cpu_seconds"], given["cpu_seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (given["memory_bytes"], given["memory_bytes"]))
except (ImportError, ValueError, OSError):
    pass
def refuse(reason):
    raise ValueError(reason)
sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
sandbox.globals |= {"raise_exception": refuse, "strftime_now": lambda form: form}
def turns(count):
    return [{"role": ("user", "assistant")[place % 2], "content": "2+2?"} for place in range(count)]
try:
    template = sandbox.from_string(re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", given["template"]))
except MemoryError:
    sys.exit(3)
except Exception:  # only its bounds are tried here: what is wrong with it is told where it is rendered for use
    sys.exit(0)
for messages in (turns(1), [{"role": "system", "content": "Be brief."}, *turns(1)], turns(2), turns(41)):
    try:
        text = template.render(messages=messages, add_generation_prompt=True, enable_thinking=False, **given["tokens"])
    except MemoryError:
        sys.exit(3)
    except Exception:  # a template may refuse a conversation
        continue
    if len(text) > given["characters"]:
        sys.exit(3)
"""


def render(
    tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, thinking: bool, open_answer: bool
) -> list[str]:
    """The text of conversations as the tokenizer's chat template writes it.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversations: of ``{"role": ..., "content": ...}`` each.
        thinking: given to the template as ``enable_thinking``; templates that do not know it ignore it.
        open_answer: whether the assistant's turn is opened at the end.

    Raises:
        PrefdeltaError: there is no template, it refuses the messages, fails, or does not end within bounds.
    """
    template = template_of(tokenizer)
    _check_bounded(template, name_of(tokenizer), json.dumps(_token_names(tokenizer), sort_keys=True))
    try:
        return list(
            tokenizer.apply_chat_template(
                [[dict(message) for message in messages] for messages in conversations],
                chat_template=template,
                tokenize=False,
                add_generation_prompt=open_answer,
                enable_thinking=thinking,
            )
        )
    except (*_FAILURES, MemoryError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PrefdeltaError(
            f"the chat template of {name_of(tokenizer)} refuses the messages or fails: {reason.rstrip('.')}."
        ) from error


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template; of several, the one called ``default``.

    Raises:
        PrefdeltaError: there is none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise PrefdeltaError(
                f"the tokenizer {name_of(tokenizer)} has the chat templates {', '.join(sorted(template))} and none "
                "called default; put the one to use into chat_template.jinja in the model's folder."
            )
        template = template["default"]
    if template is None:
        raise PrefdeltaError(
            f"the tokenizer {name_of(tokenizer)} has no chat template; use an instruction-tuned model, or add a "
            "chat_template.jinja to the model's folder."
        )
    return str(template)


def check_opens_answer(tokenizer: PreTrainedTokenizerBase, thinking: bool) -> None:
    """Refuse a template that leaves out the assistant's header when the answer is to be opened.

    A model would be asked to go on with the user's turn, and trained on answers that no header announces.

    Raises:
        PrefdeltaError: the template ignores ``add_generation_prompt``, and writes something before an answer.
    """
    asked = [{"role": "user", "content": _ASKED}]
    opened, closed = (_tried(tokenizer, asked, thinking=thinking, open_answer=flag) for flag in (True, False))
    before = answer_frame(tokenizer, thinking=thinking)[0]
    if opened is not None and opened == closed and before.startswith(opened) and before[len(opened) :].strip():
        raise PrefdeltaError(
            f"the chat template of {name_of(tokenizer)} does not open the assistant's turn: it ignores "
            f"add_generation_prompt, but writes {before[len(opened) :].strip()!r} before an answer; let it write that."
        )


def answer_frame(tokenizer: PreTrainedTokenizerBase, *, thinking: bool = False) -> tuple[str, str]:
    """What the template writes before and after an answer; two empty texts if it does not show answers."""
    turns = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}]
    text = _tried(tokenizer, turns, thinking=thinking) or ""
    before, _, after = text.rpartition(_ANSWERED)
    return (before, after) if before or text.startswith(_ANSWERED) else ("", "")


def frames(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the template writes around messages of every role that it takes."""
    user, answer = {"role": "user", "content": _ASKED}, {"role": "assistant", "content": _ANSWERED}
    tried = (
        [user],
        [{"role": "system", "content": _SYSTEM}, user],
        [user, answer, {"role": "user", "content": _NEXT}],
        [user, answer, {"role": "tool", "content": _NEXT}],
    )
    found = []
    for turns in tried:
        parts = [_tried(tokenizer, turns) or ""]
        for content in (_SYSTEM, _ASKED, _ANSWERED, _NEXT):
            parts = [piece for part in parts for piece in part.split(content)]
        found += parts
    return list(dict.fromkeys(part for part in found if part.strip()))


def name_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's model, for messages."""
    return repr(tokenizer.name_or_path) if tokenizer.name_or_path else "given"


def _tried(
    tokenizer: PreTrainedTokenizerBase,
    turns: list[dict[str, str]],
    *,
    thinking: bool = False,
    open_answer: bool = False,
) -> str | None:
    """A rendered conversation, or ``None`` where the template refuses it."""
    try:
        return render(tokenizer, [turns], thinking=thinking, open_answer=open_answer)[0]
    except PrefdeltaError:
        return None


def _token_names(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}


def _check_bounded(template: str, name: str, tokens: str) -> None:
    if not _is_bounded(template, tokens):
        raise PrefdeltaError(
            f"the chat template of {name} does not end: a short conversation takes it more than "
            f"{_LIMITS['cpu_seconds']} seconds or {_LIMITS['memory_bytes'] // 2**30} GiB; correct the template."
        )


@lru_cache(maxsize=64)  # of both answers: an endless template is tried once
def _is_bounded(template: str, tokens: str) -> bool:
    known = {"template": template, "tokens": json.loads(tokens), "path": list(filter(None, sys.path))}
    given = json.dumps({**known, **_LIMITS})
    command = [sys.executable, "-I", "-c", _TRIAL]
    try:
        code = subprocess.run(command, input=given, text=True, capture_output=True, timeout=_TIMEOUT).returncode
    except subprocess.TimeoutExpired:
        return False
    return code != _UNBOUNDED and code >= 0
