"""The static HTML report of a graph: one page without scripts, for whoever asks what tonight's graph is made of."""

import math
from html import escape
from itertools import zip_longest

from graph_build.report.statistics import CategoryMixing, GraphStatistics
from graph_build.summary import GraphSummary

COLOURS = {"strong_click": "var(--a)", "swing": "var(--b)", "co_search": "var(--c)"}
RULES = {
    "session_items": "items of sessions",
    "basket_items": "items of baskets",
    "co_search_items": "items of searches",
    "swing_item_users": "users of items (Swing)",
    "swing_user_items": "items of users (Swing)",
}
LABELS = {"strong_click": "strong click", "swing": "Swing", "co_search": "co-search"}

STYLE = """
:root { --bg:#fbfaf7; --fg:#23262b; --soft:#6a7078; --line:#dedbd3; --card:#fff;
  --a:#2f6db5; --b:#c9622a; --c:#3c8d5a }
@media (prefers-color-scheme: dark) {
  :root { --bg:#16181b; --fg:#e7e5e0; --soft:#9aa0a8; --line:#33373d; --card:#1e2125;
    --a:#6ea8ea; --b:#ee9560; --c:#74c794 }
}
* { box-sizing:border-box }
body { margin:0 auto; padding:2.5rem 1.25rem; max-width:70rem; background:var(--bg); color:var(--fg);
  font:15px/1.5 system-ui,sans-serif }
h1 { font-size:1.6rem; margin:0 } h2 { font-size:1.05rem; margin:2.2rem 0 .6rem }
p { color:var(--soft); margin:.3rem 0; max-width:46rem }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(9rem,1fr)); gap:.7rem; margin-top:1.4rem }
.tile { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:.7rem .9rem }
.tile b { display:block; font-size:1.35rem; font-variant-numeric:tabular-nums } .tile span { color:var(--soft) }
.scroll { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th,td { text-align:right; padding:.35rem .6rem; border-bottom:1px solid var(--line); white-space:nowrap }
th:first-child,td:first-child { text-align:left } th { color:var(--soft); font-weight:500 }
td.bar { width:45%; text-align:left } td.bar i { display:block; height:.7rem; min-width:2px; border-radius:3px;
  background:var(--a) }
svg { width:100%; height:auto; max-width:44rem; background:var(--card); border:1px solid var(--line);
  border-radius:8px }
svg text { fill:var(--soft); font:12px system-ui,sans-serif }
"""


def render(summary: GraphSummary, statistics: GraphStatistics) -> str:
    """The report as one self-contained page, in the reader's light or dark."""
    refused = {
        f"{table}: {reason}": n for table, reasons in summary.quarantined.items() for reason, n in reasons.items()
    }
    parts = [
        f"<h1>Item graph</h1><p>All valid events up to {summary.as_of:%Y-%m-%d %H:%M:%S} UTC.</p>",
        _tiles(
            {
                "items": summary.nodes,
                "tail items": summary.tail,
                "edges": sum(summary.edges.values()),
                "training pairs": sum(summary.transitions.values()),
                "sessions": summary.sessions,
                "held out": summary.holdout_sessions,
            }
        ),
        *(
            [_section("Doubts", "", "".join(f"<p>{escape(doubt)}</p>" for doubt in summary.doubts))]
            if summary.doubts
            else []
        ),
        _section(
            "Events",
            f"{summary.events['read']:,} rows read, {summary.events['valid']:,} used; "
            f"{summary.events['duplicates']:,} duplicates, {summary.events['opened_views']:,} views that a click had "
            f"opened and so count with it, {summary.events['left_out']:,} left out as caused by our own ads.",
            _bars(summary.events["by_type"]),
        ),
        _section(
            "Quarantine",
            "Rows that were refused, by reason; the table quarantine/ has each of them." if refused else "",
            _bars(refused) if refused else "<p>No row was refused.</p>",
        ),
        _section(
            "Edges",
            "Kept within each type's quota.",
            _bars({LABELS[kind]: n for kind, n in summary.edges.items()}),
        ),
        _section(
            "Before and after each densification",
            "Each row adds one edge type to those above it. Reachable: the share of all items that an item leads to "
            "along edges, on average. Components and the other shares take the edges as undirected and count every "
            "item; clustering is the chance that two neighbours of an item are neighbours.",
            _steps(statistics) + "".join(f"<p>{escape(note)}</p>" for note in statistics.notes),
        ),
        _section(
            "Degrees",
            "Share of all items with at least so many neighbours, by edge type; both axes logarithmic.",
            _degree_plot(statistics.degrees, summary.nodes),
        ),
        _section(
            "Hubs",
            "The items with most neighbours, by edge type.",
            _hubs(statistics.hubs) if statistics.hubs else "<p>None.</p>",
        ),
        *([_mixing(statistics.mixing)] if statistics.mixing else []),
        _section(
            "Cut by caps",
            "Bot-like sessions, very popular items and very busy users are cut before they are counted. Below, what "
            "was cut most, with its size before; users by the hash xxhash64(user_id).",
            _bars({RULES[rule]: n for rule, n in summary.capped.items()}) + _most_cut(summary.most_cut),
        ),
    ]
    if summary.ads["total"]:
        ads = dict(sorted(summary.ads["by_status"].items()))
        parts.append(_section("Ads", f"{summary.ads['total']:,} ads by status.", _bars(ads)))
    seconds = {stage: f"{value:.1f}" for stage, value in summary.seconds.items()}
    parts.append(
        _section("Time", "Seconds of each stage.", _table(["stage", "s"], [list(row) for row in seconds.items()]))
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Item graph, {summary.as_of:%Y-%m-%d}</title><style>{STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>" + (f"<p>{escape(text)}</p>" if text else "") + body


def _tiles(values: dict[str, int]) -> str:
    tiles = "".join(f'<div class="tile"><b>{n:,}</b><span>{escape(name)}</span></div>' for name, n in values.items())
    return f'<div class="tiles">{tiles}</div>'


def _bars(values: dict[str, int]) -> str:
    most = max([*values.values(), 1])
    rows = "".join(
        f'<tr><td>{escape(str(name))}</td><td>{n:,}</td><td class="bar">'
        + (f'<i style="width:{100 * n / most:.1f}%"></i>' if n else "")
        + "</td></tr>"
        for name, n in values.items()
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _steps(statistics: GraphStatistics) -> str:
    if not statistics.steps:
        return ""
    head = ["edges", "pairs", "density", "both ways", "reachable", "components", "largest", "items alone"]
    head += ["clustering", "deepest core"]
    rows = [
        [
            ("+ " if number else "") + LABELS[step.edge_type],
            f"{step.pairs:,}",
            f"{step.density:.2e}",
            f"{step.reciprocity:.1%}",
            f"{step.reachable:.1%}",
            f"{step.components:,}",
            f"{step.largest_share:.1%}",
            f"{step.isolated_share:.1%}",
            "–" if step.clustering is None else f"{step.clustering:.3f}",
            "–" if step.deepest_core is None else str(step.deepest_core),
        ]
        for number, step in enumerate(statistics.steps)
    ]
    return _table(head, rows)


def _hubs(hubs: dict[str, list[tuple[str, int]]]) -> str:
    columns = [[f"{item} ({degree:,})" for item, degree in found] for found in hubs.values()]
    rows = [list(row) for row in zip_longest(*columns, fillvalue="")]
    return _table([LABELS[kind] for kind in hubs], rows)


def _most_cut(most_cut: dict[str, dict[str, int]]) -> str:
    rules = {rule: names for rule, names in most_cut.items() if names}
    columns = [[f"{name} ({had:,})" for name, had in names.items()] for names in rules.values()]
    rows = [list(row) for row in zip_longest(*columns, fillvalue="")]
    return _table([RULES[rule] for rule in rules], rows) if rows else ""


def _mixing(mixing: CategoryMixing) -> str:
    """Rows: of the neighbours of a category's items, the share in each category; darker is more."""
    cell, left, top = 34, 190, 14
    size = len(mixing.categories)
    marks = []
    for i, (name, row) in enumerate(zip(mixing.categories, mixing.counts, strict=True)):
        y = top + i * cell
        marks.append(f'<text x="{left - 8}" y="{y + 21}" text-anchor="end">{escape(name[:26])}</text>')
        for j, n in enumerate(row):
            share = n / sum(row) if sum(row) else 0.0
            title = f"{escape(name)} → {escape(mixing.categories[j])}: {share:.1%}"
            marks.append(
                f'<rect x="{left + j * cell}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3" fill="var(--a)" '
                f'fill-opacity="{0.04 + 0.96 * share:.2f}"><title>{title}</title></rect>'
            )
    width, height = left + size * cell + 10, top + size * cell + 10
    text = (
        f"{mixing.within:.0%} of {mixing.pairs:,} pairs stay within one top-level category; by chance it would be "
        f"{mixing.expected:.0%}. Each row shows where a category's neighbours are, columns in the order of the rows."
    )
    return _section("Categories", text, f'<svg viewBox="0 0 {width} {height}">{"".join(marks)}</svg>')


def _degree_plot(degrees: dict[str, list[tuple[int, int]]], nodes: int) -> str:
    if not degrees:
        return "<p>The graph has no edges.</p>"
    width, height, left, top, right, bottom = 720, 360, 64, 18, 20, 44
    far = max(1.0, math.log10(max(degree for points in degrees.values() for degree, _ in points)))
    low = min(-1.0, math.log10(1 / nodes))

    def x(degree: float) -> float:
        return left + (width - left - right) * math.log10(degree) / far

    def y(share: float) -> float:
        return top + (height - top - bottom) * math.log10(share) / low

    foot = height - bottom
    marks = [
        f'<line x1="{x(10**power):.1f}" x2="{x(10**power):.1f}" y1="{top}" y2="{foot}" stroke="var(--line)"/>'
        f'<text x="{x(10**power):.1f}" y="{foot + 18}" text-anchor="middle">{10**power:,}</text>'
        for power in range(math.floor(far) + 1)
    ]
    for power in range(math.ceil(low), 1):
        at = y(10.0**power)
        label = f"{10.0**power * 100:g}%"
        marks.append(
            f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--line)"/>'
            f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
        )
    marks.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">neighbours</text>')
    for row, (kind, points) in enumerate(degrees.items()):
        line = " ".join(f"{x(degree):.1f},{y(n / nodes):.1f}" for degree, n in points)
        dots = "".join(
            f'<circle cx="{x(degree):.1f}" cy="{y(n / nodes):.1f}" r="3" fill="{COLOURS[kind]}"/>'
            for degree, n in points
        )
        legend = height - bottom - 16 - 20 * (len(degrees) - 1 - row)
        marks.append(
            f'<polyline points="{line}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>{dots}'
            f'<circle cx="{left + 14}" cy="{legend - 4}" r="4" fill="{COLOURS[kind]}"/>'
            f'<text x="{left + 24}" y="{legend}">{LABELS[kind]}</text>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Degree distribution">{"".join(marks)}</svg>'
