"""The quality of a version as one HTML page: the figures that `evaluate` measured, and the peers that are ahead."""

from collections.abc import Iterator, Mapping
from typing import Any

SERVED = "LightSAGE"
PROTOCOLS = {
    "item": "For each step from one item to the next in a test session: is the next item among the first results for "
    "the current one?",
    "session": "For each item of a test session but the first: is it among the first results for all items before it?",
    "basket": "For each item of a test basket: are the basket's other items among the first results?",
}
PARTS = {
    "all": "All targets",
    "tail": "Targets of the tail",
    "cold": "Cold targets",
    "ads": "Only items with an ad that may be shown",
}
# The bars of a part show the first of these metrics that the part has.
MAIN = (("HR", 100), ("recall", 100), ("HR", 20), ("recall", 20))


# The words are those of docs/glossary.md; a test compares them.
QUALITY_TERMS = {
    "HR@k": "Hit rate: the share of targets among the first k results.",
    "MRR@20": "Mean reciprocal rank: the mean of 1 / rank of the target, 0 if it is not among the first 20.",
    "coverage@20": "The share of the catalogue that appears among the first 20 results of any query.",
    "cold": "Items without any training event. A cold target is a new item that somebody opened in the test.",
    "transitions": "Counts how often B followed A directly.",
    "rules": "Session rules: counts each B up to 10 items away from A in a session. It weighs 1 / distance if it comes "
    "after A, and half of that if it comes before.",
    "item-kNN": "Cosine similarity of the sets of sessions in which two items occur.",
    "popularity": "The same list for everyone: the items with the most events, of which recent ones count more.",
}


def render_quality(result: Mapping[str, Any]) -> str:
    """Render the result of `evaluate_version`.

    Args:
        result: the content of REPORT.json.
    """
    from graph_build.report.pages import render_page
    from graph_build.report.terms import GRAPH_TERMS

    parts = list(dict.fromkeys(row["slice"] for row in result["rows"]))
    return render_page(
        "quality.html.j2",
        package="jobs.pipeline",
        result=result,
        protocol=PROTOCOLS[result["protocol"]],
        findings=quality_findings(result),
        parts=[_part(result, part) for part in parts],
        terms=QUALITY_TERMS | {name: GRAPH_TERMS[name] for name in ("tail", "Swing")},
    )


def quality_findings(result: Mapping[str, Any]) -> list[str]:
    """Return sentences about reasons to doubt the figures, and about metrics in which a peer is ahead.

    Args:
        result: the content of REPORT.json.
    """
    return [*_doubts(result), *_behind(result)]


def _doubts(result: Mapping[str, Any]) -> Iterator[str]:
    if "unknown_share" in result:
        yield f"{result['unknown_share']:.0%} of the test events are of items that the version does not know."
    if "overlapping_events" in result:
        yield f"{result['overlapping_events']:,} test events are not after the as-of time; the model may know them."


def _behind(result: Mapping[str, Any]) -> Iterator[str]:
    rows = {(row["slice"], row["metric"], row["k"], row["model"]): row for row in result["rows"]}
    for part, metric, k in dict.fromkeys(key[:3] for key in rows):
        own = rows.get((part, metric, k, SERVED))
        peers = [row for key, row in rows.items() if key[:3] == (part, metric, k) and row is not own]
        if own is None or own["value"] is None or metric in ("coverage", "skipped"):
            continue
        ahead = max((row for row in peers if row["value"] is not None), key=lambda row: row["value"], default=None)
        if ahead is not None and ahead["value"] > own["value"]:
            apart = ahead["low"] is not None and own["high"] is not None and ahead["low"] > own["high"]
            yield (
                f"{ahead['model']} is ahead in {'' if part == 'all' else part + ' '}{metric}@{k}: {ahead['value']:.3f} "
                f"against {own['value']:.3f}{'' if apart else ', within the intervals'}."
            )


def _part(result: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the title and the columns of a part, and a line for each model, with the model's name, cells and bar."""
    rows = [row for row in result["rows"] if row["slice"] == part]
    cells = {(row["model"], row["metric"], row["k"]): row for row in rows}
    columns = [column for column in dict.fromkeys((row["metric"], row["k"]) for row in rows) if column[0] != "skipped"]
    main = next((column for column in MAIN if column in columns), None)
    best = {
        column: max((row["value"] or 0 for key, row in cells.items() if key[1:] == column), default=0)
        for column in columns
    }
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        row_cells = [cells.get((model, *column)) for column in columns]
        is_best = [
            cell is not None and 0 < best[column] == cell["value"]
            for column, cell in zip(columns, row_cells, strict=True)
        ]
        bar = cells.get((model, *main)) if main else None
        lines.append({"model": model, "cells": list(zip(row_cells, is_best, strict=True)), "bar": bar})
    return {
        "title": PARTS.get(part, part),
        "n": max((row["n"] for row in rows), default=0),
        "columns": [f"{metric}@{k}" for metric, k in columns],
        "main": f"{main[0]}@{main[1]}" if main else None,
        "lines": lines,
    }
