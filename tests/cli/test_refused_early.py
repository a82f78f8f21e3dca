"""A mistake in a merge's words is told before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys

REFUSED = {
    "merge a b -o out --method tise": "there is no merge method 'tise'; did you mean 'ties'?",
    "merge a b -o out --method ties --set densty=0.2": "ties: unknown option 'densty'; did you mean 'density'?",
    "merge a b -o out --method gam --set reference=2": "GAM's reference is 2, but there are 2 adapters (from 0).",
    "merge a b c -o out --method slerp": "merge method slerp takes exactly 2 adapters, not 3.",
    "merge a b -o out --scale large": "'large' is neither a number nor norm-matched, projection, stored,",
    "merge a b -o out --scale nan": "the scale must be a finite number, not nan.",
    "merge a b -o out --weights 1": "1 weights were given for 2 adapters.",
    "merge a b -o out --into c --method tise": "there is no merge method 'tise'; did you mean 'ties'?",
    "merge a b -o out --into c --scale pairs": "neither a number nor norm-matched nor projection",
    "tune a b --base c -o out --methods average,tise": "there is no merge method 'tise'; did you mean 'ties'?",
    "tune a b --base c -o out --methods ties --set ties.densty=0.2": "merge method ties: unknown option 'densty'",
    "tune a b --base c -o out --methods ties --set gam.reference=0": "gam, which is not among the methods",
    "tune a b c --base c -o out --methods average,slerp": "merge method slerp takes exactly 2 adapters, not 3.",
    "tune a b --base c -o out --scales 1,large": "'large' is neither a number nor norm-matched nor projection; auto",
    "tune a b --base c -o out --scales 1,0": "tuning tries scales above 0, not 0",
    "tune a b --base c -o out --set temperatur=1": "unknown key 'temperatur'; did you mean 'temperature'?",
    "learn a b --base c -o out --pairs d --method tara-c": "there is no learned merge 'tara-c'; did you mean 'tara-",
    "learn a b --base c -o out --pairs d --method gam-task --set gam-task.referenc=0": "unknown option 'referenc'",
    "learn a b --base c -o out --pairs d --method gam-task --set gam-task.reference=2": "GAM's reference is 2",
    "learn a b --base c -o out --pairs d --method tara-a --set gam-task.reference=0": "but the method is tara-a",
}

ASKED = """
import contextlib, io, json, sys
from prefdelta.cli import main
from prefdelta.core.errors import PrefdeltaError
from prefdelta.experiments.checking import checked
from prefdelta.recipe import MergeMethod
from prefdelta.recipe.suite import LearnedMethod
said = {}
for command in json.loads(sys.argv[1]):
    sys.argv = ["prefdelta", *command.split()]
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.suppress(SystemExit):
        main()
    said[command] = told.getvalue()
for section in (MergeMethod(name="tise"), LearnedMethod(learn="gam-task", options={"referenc": 0})):
    try:
        checked(section)
    except PrefdeltaError as error:
        said[type(section).__name__] = str(error)
print(json.dumps([said, sorted({"torch", "transformers", "peft"} & sys.modules.keys())]))
"""


def test_mistakes_are_told_before_torch_is_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ASKED, json.dumps([*REFUSED])], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said, imported = json.loads(done.stdout)
    assert imported == []
    for command, sentence in REFUSED.items():
        assert sentence in said[command], command
        assert said[command].startswith("prefdelta: ")
    assert "did you mean 'ties'" in said["MergeMethod"]
    assert "learned merge 'gam-task': unknown option 'referenc'; did you mean 'reference'?" in said["LearnedMethod"]
    assert [*tmp_path.iterdir()] == []
