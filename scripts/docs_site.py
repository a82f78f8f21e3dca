"""Hooks of MkDocs: pages generated from the code, and links that leave the documentation.

The start page is README.md. The pages of commands and methods are what ``--help`` and ``prefdelta methods NAME`` print,
so that they cannot be out of date. A notebook becomes a page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer.main

from prefdelta.cli import app
from prefdelta.cli.help import REFERENCES, SECTIONS
from prefdelta.cli.methods import method_text
from prefdelta.merging.learned.methods import LEARNED
from prefdelta.merging.registry import METHODS
from run_notebook import page as notebook_page

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s:#]+)(#[^)]*)?\)")


def commands_page() -> str:
    """Every command with its help, in the order of work."""
    group: Any = typer.main.get_command(app)
    parts = ["# Commands\n"]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in names:
            command = group.commands[name]
            parts += [f"### prefdelta {name}\n", _help(command, name)]
            for inner, below in getattr(command, "commands", {}).items():
                parts += [f"#### prefdelta {name} {inner}\n", _help(below, f"{name} {inner}")]
            parts.append(f"Explained in [{REFERENCES[name].page}](../{REFERENCES[name].page}).\n")
    return "\n".join(parts)


def _help(command: Any, words: str) -> str:
    with command.make_context(f"prefdelta {words}", [], resilient_parsing=True) as context:
        return f"```text\n{command.get_help(context).rstrip()}\n```\n"


def methods_page() -> str:
    """Every merge method with its equation as code, its options and when to use it."""
    parts = ["# Merge methods, in full\n"]
    for name in (*METHODS, *LEARNED):
        parts += [f"## {name}\n", f"```text\n{method_text(name).rstrip()}\n```\n"]
    return "\n".join(parts)


def start_page() -> str:
    """README.md, its links seen from ``docs``."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.replace("](docs/", "](")


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    made = {
        "index.md": start_page,
        "reference/commands.md": commands_page,
        "reference/methods.md": methods_page,
    }
    for path, page in made.items():
        files.append(File.generated(config, path, content=page()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        content = notebook_page(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links to files outside of ``docs``, which a site does not have, into their names."""
    place = page.file.src_uri
    here = (ROOT / "docs" / place).parent

    def inside(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        target = (here / path).resolve()
        if target == ROOT / "README.md":
            return f"[{text}]({'../' * place.count('/')}index.md{anchor})"
        if target.suffix == ".ipynb":
            return f"[{text}]({path.removesuffix('.ipynb')}.md{anchor})"
        if target.is_relative_to(ROOT / "docs") and (target.exists() or place != "index.md"):
            return match[0]
        name = path.removeprefix("../").removeprefix("../")
        return text if name in text else f"{text} (`{name}`)"

    return _LINK.sub(inside, markdown)
