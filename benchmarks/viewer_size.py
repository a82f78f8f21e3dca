"""How long the viewer's page takes to show a large run, and how long scrolling halts, in headless Chromium.

    python benchmarks/viewer_size.py                          # 100,000 items × 20 models, writes results/viewer_size.md
    python benchmarks/viewer_size.py --items 2000 --quick     # a quick check, prints only

The run is made up: scores and texts mean nothing, their number and size do. Needs Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, opened  # noqa: E402
from prefdelta.core.records import Item, Record  # noqa: E402
from prefdelta.experiments.aggregation.summary import summarise  # noqa: E402
from prefdelta.report.viewer import RunView, write_viewer  # noqa: E402
from prefdelta.report.viewer.aggregation import domain_model  # noqa: E402
from prefdelta.report.viewer.view import DomainView  # noqa: E402
from report_sample import outcome  # noqa: E402

STEPS = 60
RESULT = ROOT / "benchmarks" / "results" / "viewer_size.md"

_PAUSES = """(async () => {
  const grid = document.querySelector('#grid'), pauses = [];
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  let last = performance.now();
  for (let step = 0; step < STEPS; step++) {
    grid.scrollTop += JUMP;
    await frame();
    const now = performance.now();
    pauses.push(now - last);
    last = now;
  }
  return pauses;
})()"""


def made_up(items: int, models: int) -> RunView:
    """A run of one domain with so many items and models."""
    made = outcome("reasoning", (0,))
    results = summarise("size", (0,), {"reasoning": made})
    domain = results.domains["reasoning"]
    summary = domain.summary
    needed = ["student", summary.best_single.variant, summary.best_merge.variant]
    names = [*needed, *(name for name in domain.methods if name not in needed)][:models]
    domain = domain.model_copy(update={"methods": {name: domain.methods[name] for name in names}})
    task = next(iter(domain.tasks))
    asked = [
        Item(
            f"{task}-{n}",
            task,
            ({"role": "user", "content": f"Question {n}: how much is {n} and {n + 1}?"},),
            (str(n),),
        )
        for n in range(items)
    ]
    pool = [
        Record(task, "", float(n % 3 == 0), str(n), f"steps of answer {n} <answer>{n}</answer>", n % 50 == 0, 20)
        for n in range(997)
    ]
    answers = [list(islice(cycle(pool[shift:] + pool[:shift]), items)) for shift in range(len(names))]
    places = {name: place for place, name in enumerate(names)}
    view = DomainView(
        name="reasoning",
        tasks=list(domain.tasks),
        models=[domain_model(name, domain) for name in names],
        base=places["student"],
        rival=places[summary.best_single.variant],
        choices=[places[summary.best_merge.variant]],
        items=[(task, item.id) for item in asked],
        questions=asked,
        answers=[answers],
    )
    whole = results.model_copy(update={"domains": {"reasoning": domain}})
    return RunView("size", "", whole, ["A made-up run."], (0,), domains=[view])


def measure(page: Page, index: Path) -> dict[str, float]:
    """First paint of the table, the longest halts and the page's own work for a step, in milliseconds."""
    page.size(1440, 900)
    page.open(index, "#all=1")
    page.wait("document.querySelectorAll('.body .row').length > 5")
    shown = page.run("new Promise(done => requestAnimationFrame(() => done(performance.now())))")
    found = {"first rows on the screen after": float(shown)}
    for name, jump in (
        ("without scrolling", 0),
        ("row by row", 44),
        ("page by page", 600),
        ("across the table", 40_000),
    ):
        before = page.worked()
        pauses = page.run(_PAUSES.replace("STEPS", str(STEPS)).replace("JUMP", str(jump)))
        found[f"longest pause, {name}"] = max(pauses)
        found[f"processor time of a step, {name}"] = 1000 * (page.worked() - before) / STEPS
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="print only")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        write_viewer(made_up(arguments.items, arguments.models), Path(folder) / "view", recipe="name: size\n")
        written = time.perf_counter() - begun
        index = Path(folder) / "view" / "data" / "index.js"
        size = index.stat().st_size / 2**20
        with opened(Path(folder) / "profile") as page:
            found = measure(page, Path(folder) / "view" / "index.html")
    lines = [f"| {name} | {value:,.{0 if value >= 100 else 1}f} ms |" for name, value in found.items()]
    text = f"""# The viewer on a large run

{arguments.items:,} items × {arguments.models} models, all columns shown, 1440 × 900 pixels, headless Chromium, load
average {load:.1f} on {os.cpu_count()} cores at the start. Writing the folder took {written:.0f} s; its
`data/index.js`, which is read before the first row, has {size:.1f} MiB.

| what | time |
|---|---|
{os.linesep.join(lines)}

Rerun: `python benchmarks/viewer_size.py`. A pause is the time between two frames while the table scrolls, {STEPS} steps
of each kind; an undisturbed frame takes 17 ms, and the pause without scrolling is what other work on the machine costs.
Processor time is that of the page's main thread, which other work does not change much.
"""
    print(text)
    if not arguments.quick:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
