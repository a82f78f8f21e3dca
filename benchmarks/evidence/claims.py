"""From measured cells to the numbers of the claims."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence.intervals import Answers, over_groups, over_seeds, score

Row = Mapping[str, Any]
WAYS = ("one", "norm-matched", "projection", "stored", "agreement", "labels")
"""How λ of a merge is chosen: not at all, by adapters alone, by their trainings, without labels, with labels."""
LOOKED_AT = ("shipped", 0)
"""The family and the seed on whose merges the rule of ``stored`` was found."""
SHARPENING = Path(__file__).parents[1] / "results" / "sharpening.md"


def claims(rows: Sequence[Row]) -> dict[str, Any]:
    """All numbers; a claim whose cells were not measured is left out."""
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        parts[row["part"]].append(row)
    students = {(row["cell"]["family"], row["cell"]["domain"]): row["tests"]["student"] for row in parts["student"]}
    found = {
        "table": _table(parts["seeds"], parts["baselines"], students),
        "families": _families(parts["families"], students),
        "regret": _regret(parts["seeds"]),
        "regret_families": _regret(parts["families"]),
        "regret_alone": _regret([row for row in parts["baselines"] if len(row["cell"]["members"]) == 1]),
        "lengths": _lengths(parts["seeds"], parts["lengths"]),
        "number": _number(parts["baselines"], parts["number"], parts["seeds"]),
        "many": _number([], [row for row in parts["many"] if not _alike(row)], []),
        "alike": _number([], [row for row in parts["many"] if _alike(row)], []),
        "harmful": _harmful(parts["seeds"], parts["harmful"]),
        "ranks": _variants(parts["ranks"]),
        "regret_ranks": _regret(parts["ranks"]),
        "objectives": _variants(parts["objectives"]),
        "regret_objectives": _regret(parts["objectives"]),
        "fooled": _fooled([row for row in parts["fooled"] if not row["cell"]["classes"]]),
        "seen": _seen([row for row in parts["fooled"] if row["cell"]["classes"]]),
        "sharpening": sharpening(SHARPENING.read_text(encoding="utf-8")),
    }
    counted = [row for row in rows if row["part"] != "student"]
    return {
        "cells": {part: sorted({_name(row) for row in parts[part]}) for part in parts if part != "student"},
        "count": len(counted),
        "claims": {name: each for name, each in found.items() if each},
    }


def _name(row: Row) -> str:
    cell = row["cell"]
    members = "+".join(cell["members"])
    trained = "/".join(filter(None, (f"x{cell['epochs']:g}", cell["variant"])))
    return f"{cell['family']}/{cell['domain']}/{cell['seed']}/{trained}/{members}/{cell['method']}"


def _group(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row["cell"][key] for key in keys)].append(row)
    return groups


def _table(seeds: Sequence[Row], baselines: Sequence[Row], students: Mapping[Any, Answers]) -> dict[str, Any]:
    """By domain: the student, the best single delta, baselines and merges, each at λ = 1 and at chosen λ."""
    found: dict[str, Any] = {}
    for (family, domain), rows in _group(seeds, "family", "domain").items():
        made: dict[str, Any] = {"student": over_seeds([students[family, domain]])}
        for (method,), of_method in _group(rows, "method").items():
            made[method] = _ways(of_method)
        own = [row for row in baselines if row["cell"]["domain"] == domain]
        for (members,), alone in _group(own, "members").items():
            made[members[0].partition(".")[0]] = _ways(alone)
        best = _best_singles(own)
        if best:
            made["best single"] = {"labels": over_seeds([tests for tests, _ in best.values()])}
            made["over best single"] = _over(rows, {seed: tests for seed, (tests, _) in best.items()})
        for other in ("average", "ties"):
            chosen = {row["cell"]["seed"]: row["tests"]["agreement"] for row in rows if row["cell"]["method"] == other}
            made[f"over {other}"] = _over([row for row in rows if row["cell"]["method"] != other], chosen)
        made["over student"] = _over(rows, {row["cell"]["seed"]: students[family, domain] for row in rows})
        found[domain] = made
    return found


def _families(rows: Sequence[Row], students: Mapping[Any, Answers]) -> dict[str, Any]:
    """By domain: each family's scores, and the methods against others over all families.

    The interval of a mean over families is Student's over their differences, one each: they share no model. Each
    merge also has how many times the λ of ``stored`` the one of agreement is, beside what each lost.
    """
    found: dict[str, Any] = {}
    for (domain,), of_domain in _group(rows, "domain").items():
        made: dict[str, Any] = {"scores": {}, "ratio": {}}
        at: dict[str, dict[Any, float]] = defaultdict(dict)
        for row in of_domain:
            place = (row["cell"]["family"], row["cell"]["seed"])
            at[row["cell"]["method"]][place] = score(row["tests"]["agreement"])
            at["student"][place] = score(students[place[0], domain])
            made["ratio"][_name(row)] = {
                "ratio": round(row["chosen"]["agreement"] / row["chosen"]["stored"], 2),
                "lost": {way: round(lost(row, way), 1) for way in ("agreement", "stored")},
            }
        for method, scores in at.items():
            made["scores"][method] = {str(family): round(each, 1) for (family, _), each in scores.items()}
        for other in ("student", "average", "ties"):
            made[f"over {other}"] = {
                method: over_groups({place: [each - at[other][place]] for place, each in scores.items()})
                for method, scores in at.items()
                if method not in ("student", other)
            }
        found[domain] = made
    return found


def _ways(rows: Sequence[Row]) -> dict[str, Any]:
    ways = [way for way in WAYS if all(way in row["tests"] for row in rows)]
    return {way: over_seeds([row["tests"][way] for row in rows]) for way in ways}


def _is_baseline(member: str) -> bool:
    return member == "joint" or "." in member


def _best_singles(rows: Iterable[Row]) -> dict[int, tuple[Answers, str]]:
    """By seed, the test answers of the best single delta: best on the test items, at λ = 1 or at its labelled λ."""
    best: dict[int, tuple[Answers, str]] = {}
    for row in rows:
        (member,) = row["cell"]["members"]
        if _is_baseline(member):
            continue
        for way in ("one", "labels"):
            tests, seed = row["tests"][way], row["cell"]["seed"]
            if seed not in best or score(tests) > score(best[seed][0]):
                best[seed] = (tests, member)
    return best


def _over(rows: Sequence[Row], others: Mapping[int, Answers]) -> dict[str, Any]:
    """Each method, λ chosen without labels, against other answers of the same seed."""
    return {
        method: over_seeds(
            [row["tests"]["agreement"] for row in of_method if row["cell"]["seed"] in others],
            [others[row["cell"]["seed"]] for row in of_method if row["cell"]["seed"] in others],
        )
        for (method,), of_method in _group(rows, "method").items()
        if any(row["cell"]["seed"] in others for row in of_method)
    }


def _regret(rows: Sequence[Row]) -> dict[str, Any]:
    """Points lost on test items against the λ that labels choose; of all, and by method, domain and family."""
    found: dict[str, Any] = {}
    for way in (way for way in WAYS if way != "labels"):
        chosen = [row for row in rows if way in row["tests"]]
        if chosen:
            found[way] = {
                "all": _lost(chosen, way),
                **{
                    key: {str(name): _lost(group, way) for (name,), group in _group(chosen, key).items()}
                    for key in ("method", "domain", "family")
                },
            }
    unseen = [row for row in rows if (row["cell"]["family"], row["cell"]["seed"]) != LOOKED_AT]
    if "stored" in found and unseen:
        found["stored"]["unseen"] = _lost(unseen, "stored")
    if found:
        same = [row["chosen"]["agreement"] == row["chosen"]["labels"] for row in rows]
        found["same"] = {"of": len(same), "same": sum(same)}
    return found


def lost(row: Row, way: str) -> float:
    """Points that a way to choose λ loses against labels in one cell."""
    return score(row["tests"]["labels"]) - score(row["tests"][way])


def _lost(rows: Sequence[Row], way: str) -> dict[str, Any]:
    groups = _group(rows, "family", "domain", "seed", "epochs", "variant")
    found = over_groups({key: [lost(row, way) for row in group] for key, group in groups.items()})
    worst = max(rows, key=lambda row: lost(row, way))
    return {**found, "worst_cell": _name(worst)}


def _lengths(seeds: Sequence[Row], lengths: Sequence[Row]) -> dict[str, Any]:
    """By domain and method: epochs -> the score at the λ that was right for one epoch, and at calibrated λ."""
    found: dict[str, Any] = {}
    for (domain, method), rows in _group(lengths, "domain", "method").items():
        first = [row for row in seeds if all(row["cell"][key] == rows[0]["cell"][key] for key in _SAME)]
        for row in sorted([*first, *rows], key=lambda row: row["cell"]["epochs"]):
            fixed = "fixed" if "fixed" in row["tests"] else "agreement"
            ways = ("one", fixed, *(way for way in ("stored", "agreement", "labels") if way in row["tests"]))
            entry = {
                ("fixed" if way == fixed else way): {**over_seeds([row["tests"][way]]), "scale": row["chosen"][way]}
                for way in ways
            }
            entry["agreement"] = {**over_seeds([row["tests"]["agreement"]]), "scale": row["chosen"]["agreement"]}
            found.setdefault(domain, {}).setdefault(method, {})[f"{row['cell']['epochs']:g}"] = entry
    return found


_SAME = ("domain", "method", "seed", "members")


def _number(baselines: Sequence[Row], number: Sequence[Row], seeds: Sequence[Row]) -> dict[str, Any]:
    """By domain and method: number of deltas -> the mean over sets of that size, λ by agreement.

    Larger sets also have their difference to the sets of four that they hold, one as an observation of its own.
    """
    if not number:
        return {}
    first = number[0]["cell"]["seed"]
    singles = [row for row in baselines if not _is_baseline(row["cell"]["members"][0])]
    found: dict[str, Any] = {}
    for (domain, method), rows in _group(number, "domain", "method").items():
        whole = [row for row in seeds if row["cell"]["method"] == method]
        sets = [*(singles if method == "average" else ()), *rows, *whole]
        of_domain = [row for row in sets if (row["cell"]["domain"], row["cell"]["seed"]) == (domain, first)]
        by_size: dict[int, list[Row]] = defaultdict(list)
        for row in of_domain:
            by_size[len(row["cell"]["members"])].append(row)
        for size, same in sorted(by_size.items()):
            ways = [way for way in ("one", "stored", "agreement", "labels") if all(way in row["tests"] for row in same)]
            entry: dict[str, Any] = {
                way: round(float(np.mean([score(row["tests"][way]) for row in same])), 1) for way in ways
            }
            entry["each"] = {
                "+".join(row["cell"]["members"]): round(score(row["tests"]["agreement"]), 1) for row in same
            }
            entry |= {"sets": len(same), "scales": [row["chosen"]["agreement"] for row in same]}
            fours = [(row, four) for row in same for four in by_size[4] if _holds(row, four)] if size > 4 else []
            if fours:
                larger, smaller = ([row["tests"]["agreement"] for row in rows] for rows in zip(*fours, strict=True))
                entry["over four"] = over_seeds(larger, smaller)
            found.setdefault(domain, {}).setdefault(method, {})[str(size)] = entry
    return found


def _variants(rows: Sequence[Row]) -> dict[str, Any]:
    """By domain and method: how the deltas were trained -> the score by each way to choose λ, and over TIES."""
    found: dict[str, Any] = {}
    for (domain, variant), alike in _group(rows, "domain", "variant").items():
        ties = {row["cell"]["seed"]: row["tests"]["agreement"] for row in alike if row["cell"]["method"] == "ties"}
        for row in alike:
            entry = {**_ways([row]), "scale": row["chosen"]["agreement"], "over ties": _over([row], ties)}
            found.setdefault(domain, {}).setdefault(row["cell"]["method"], {})[variant] = entry
    return found


def _fooled(rows: Sequence[Row]) -> dict[str, Any]:
    """By domain and what is merged: the scores with a delta of a systematic mistake, and what was seen at each λ."""
    found: dict[str, Any] = {}
    for row in rows:
        alone = len(row["cell"]["members"]) == 1
        signs = ("agreement", "labels", "unparsed", "shared")
        found.setdefault(row["cell"]["domain"], {})["alone" if alone else row["cell"]["method"]] = {
            **_ways([row]),
            "scales": {way: row["chosen"][way] for way in ("agreement", "labels")},
            "kl": {way: round(each, 2) for way, each in row["kl"].items()},
            "asked": {
                scale: {sign: round(100 * tried[sign], 1) for sign in signs} for scale, tried in row["tried"].items()
            },
        }
    return found


def _seen(rows: Sequence[Row]) -> dict[str, Any]:
    """What is lost where λ is chosen by answers of which only the class is seen, and scores by domain and method."""
    found: dict[str, Any] = {"lost": {}, "scores": {}}
    for row in rows:
        ways = ("one", "labels", "agreement", *(f"{count} classes" for count in row["cell"]["classes"]))
        made = {way: {"score": round(score(row["tests"][way]), 1), "scale": row["chosen"][way]} for way in ways}
        found["scores"].setdefault(row["cell"]["domain"], {})[row["cell"]["method"]] = made
        for way in ways:
            found["lost"].setdefault(way, _lost(rows, way))
    return found if rows else {}


def _holds(row: Row, other: Row) -> bool:
    return set(other["cell"]["members"]) <= set(row["cell"]["members"])


def _alike(row: Row) -> bool:
    """Whether several deltas are merged that teach the same, by weak models of different families."""
    members = row["cell"]["members"]
    return len(members) > 1 and len({name.partition("-")[0] for name in members}) == 1


def _harmful(seeds: Sequence[Row], harmful: Sequence[Row]) -> dict[str, Any]:
    """By domain and method: what a harmful fifth delta costs, with λ by agreement, and what labels would get of it."""
    found: dict[str, Any] = {}
    for row in harmful:
        cell = row["cell"]
        (clean,) = [
            other
            for other in seeds
            if all(other["cell"][key] == cell[key] for key in ("domain", "method", "seed", "epochs"))
        ]
        found.setdefault(cell["domain"], {})[cell["method"]] = {
            "without": over_seeds([clean["tests"]["agreement"]]),
            "with": over_seeds([row["tests"]["agreement"]]),
            "with, by labels": over_seeds([row["tests"]["labels"]]),
            "difference": over_seeds([row["tests"]["agreement"]], [clean["tests"]["agreement"]]),
        }
    return found


def sharpening(page: str) -> dict[str, Any]:
    """What the page on sharpened merges says of the cells that were held back.

    Under ``scores`` the score of every merge in every cell; else merge -> over -> mean, interval, cells ahead.
    """
    held_back = page[page.index("## Held back") :]
    names, _, *scored = held_back.split("\n\n")[1].splitlines()
    cells_of = [cell.strip() for cell in names.strip("|").split("|")][1:]
    header, _, *lines = held_back[held_back.index("| over →") :].split("\n\n")[0].splitlines()
    others = [cell.strip() for cell in header.strip("|").split("|")][1:]
    found: dict[str, Any] = {"scores": {}}
    for line in scored:
        name, *values = [cell.strip() for cell in line.strip("|").split("|")]
        found["scores"][name] = {
            cell: float(value) for cell, value in zip(cells_of, values, strict=True) if re.fullmatch(r"[\d.]+", value)
        }
    for line in lines:
        ours, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for other, cell in zip(others, cells, strict=True):
            if match := re.fullmatch(r"([-+][\d.]+) \[([-+][\d.]+), ([-+][\d.]+)\], (\d+) of (\d+)", cell):
                mean, low, high = (float(number) for number in match.groups()[:3])
                ahead, of = (int(number) for number in match.groups()[3:])
                found.setdefault(ours, {})[other] = {"mean": mean, "low": low, "high": high, "ahead": ahead, "of": of}
    return found
