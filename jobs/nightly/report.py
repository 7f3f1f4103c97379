"""The morning report of a night: one self-contained page, and the same figures for Prometheus (a textfile)."""

import datetime as dt
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from jobs.nightly.charts import bars, lines

if TYPE_CHECKING:
    from jobs.nightly.record import NightRecord

SAID = {
    "published": "Published",
    "unchanged": "Nothing had changed",
    "refused": "Refused by its gates",
    "failed": "Failed",
}
STYLE = """
:root { color-scheme:light dark; --bg:#fbfaf7; --fg:#23262b; --soft:#666c74; --line:#dedbd3; --card:#fff;
  --good:#2c7a4b; --bad:#b3372f; --a:#2f6db5; --b:#c9622a; --c:#3c8d5a; --d:#8a5fb0; --e:#8b7a1f }
@media (prefers-color-scheme: dark) { :root { --bg:#16181b; --fg:#e7e5e0; --soft:#9aa0a8; --line:#33373d;
  --card:#1e2125; --good:#74c794; --bad:#f0827a; --a:#6ea8ea; --b:#ee9560; --c:#74c794; --d:#c19ae6; --e:#d6c458 } }
* { box-sizing:border-box }
body { margin:0 auto; padding:2rem 1rem; max-width:70rem; background:var(--bg); color:var(--fg);
  font:15px/1.5 system-ui,sans-serif }
h1 { font-size:1.5rem; margin:0 } h2 { font-size:1.05rem; margin:2rem 0 .5rem }
p { color:var(--soft); margin:.3rem 0; max-width:46rem } p.good,p.bad,td.good,td.bad { font-weight:600 }
.good { color:var(--good) } .bad { color:var(--bad) }
.grid { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr)); gap:0 1.2rem }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(8rem,1fr)); gap:.6rem; margin-top:1.2rem }
.tile { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:.6rem .8rem }
.tile b { display:block; font-size:1.25rem; font-variant-numeric:tabular-nums } .tile span { color:var(--soft) }
.scroll { overflow-x:auto } figure { margin:0 }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th,td { text-align:right; padding:.3rem .5rem; border-bottom:1px solid var(--line); white-space:nowrap }
th:first-child,td:first-child { text-align:left; white-space:normal; min-width:9rem }
th { color:var(--soft); font-weight:500 }
td.bar { width:45%; text-align:left } td.bar i { display:block; height:.7rem; min-width:2px; border-radius:3px;
  background:var(--a) }
svg { width:100%; height:auto; background:var(--card); border:1px solid var(--line); border-radius:8px }
svg text { fill:var(--soft); font:12px system-ui,sans-serif }
.legend span { margin-right:1rem; color:var(--soft); white-space:nowrap }
.legend i { display:inline-block; width:.7rem; height:.7rem; border-radius:50%; margin-right:.35rem }
"""


def render(night: "NightRecord", before: "Sequence[NightRecord]") -> str:
    """The page, in the reader's light or dark. before: the earlier nights, by date."""
    nights = [*before, night]
    good = night.outcome in ("published", "unchanged") and not night.forced
    parts = [
        f"<h1>Night of {night.date}</h1>",
        f'<p class="{"good" if good else "bad"}">{SAID[night.outcome]}'
        f"{': ' + escape(night.version) if night.version else ''}{escape(_forced(night))}</p>",
        f"<p>{escape(night.error)}</p>" if night.error else "",
        "" if good else f"<p>{_still_served(night)}</p>",
        _tiles(night),
        _section("Doubts", "".join(f"<p>{escape(doubt)}</p>" for doubt in night.doubts)) if night.doubts else "",
        _section("Gates", _gates(night)) if night.gates else "",
        '<div class="grid">',
        _section("Events by day", _events(night)),
        _section("Edges by night", _by_night(nights, _edges)),
        _section(
            "Degrees", _degrees(night), "Items with at least so many neighbours, by edge type; both axes logarithmic."
        ),
        _section("Training", _curve(night)),
        _section("HR@100 on the day, by night", _by_night(nights, _hits, share=True)),
        _section("Neighbours of the probes that stay, by night", _by_night(nights, _drift, share=True)),
        "</div>",
        _section("Quality on the day", _quality(night), _QUALITY) if night.quality else "",
        _section("Refused rows", bars(_refused(night), "Refused rows")) if _refused(night) else "",
        '<div class="grid">',
        _section("Time by stage", bars({s["name"]: s["seconds"] for s in night.stages}, "Seconds", unit=" s")),
        _section(
            "Memory by stage",
            bars({s["name"]: round(s["peak_bytes"] / 2**30, 2) for s in night.stages}, "GiB", unit=" GiB"),
        ),
        "</div>",
        f"<p>Stages that were there already: {', '.join(night.reused)}.</p>" if night.reused else "",
        f"<p>Old versions deleted: {', '.join(map(escape, night.removed))}.</p>" if night.removed else "",
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Night of {night.date}: {night.outcome}</title><style>{STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )


def metrics_text(night: "NightRecord") -> str:
    """The last night for node_exporter's textfile collector."""
    ended = (night.ended or night.began).timestamp()
    found: dict[str, tuple[str, dict[str, float]]] = {
        "lightsage_night_end_timestamp_seconds": ("When the last night ended", {"": ended}),
        "lightsage_night_date_timestamp_seconds": ("Its date", {"": _midnight(night.date)}),
        "lightsage_night_outcome": (
            "1 for how it ended",
            {f'outcome="{name}"': float(name == night.outcome) for name in SAID},
        ),
        "lightsage_night_gates_failed": ("Gates that did not pass", {"": sum(not gate.passed for gate in night.gates)}),
        "lightsage_night_gates_forced": ("Gates that were overridden", {"": len(night.forced)}),
        "lightsage_night_stage_seconds": (
            "Wall time by stage",
            {f'stage="{stage["name"]}"': stage["seconds"] for stage in night.stages},
        ),
        "lightsage_night_quality": (
            "HR@100 of the fit on the day",
            {
                f'slice="{row["slice"]}"': row["value"]
                for row in night.quality
                if row["model"] == "fit" and row["k"] == 100 and row["value"] is not None
            },
        ),
        "lightsage_night_edges": ("Edges by type", {f'type="{kind}"': n for kind, n in night.edges.items()}),
        "lightsage_night_overlap": ("Neighbours that stay", {} if night.overlap is None else {"": night.overlap}),
    }
    text = []
    for name, (what, values) in found.items():
        text += [f"# HELP {name} {what}", f"# TYPE {name} gauge"]
        text += [f"{name}{'{' + labels + '}' if labels else ''} {value}" for labels, value in values.items()]
    return "\n".join(text) + "\n"


_QUALITY = (
    "The fit through the day before, on the day itself, beside the version that was published then and counting peers. "
    "Half of the day's sessions chose the fit's weights, the other half is measured here."
)


def _section(title: str, body: str, text: str = "") -> str:
    return f"<section><h2>{escape(title)}</h2>{f'<p>{escape(text)}</p>' if text else ''}{body}</section>"


def _forced(night: "NightRecord") -> str:
    return f" with --force, against {len(night.forced)} gates" if night.forced else ""


def _still_served(night: "NightRecord") -> str:
    if night.outcome == "published":
        return ""
    return f"{escape(night.parent)} is served on." if night.parent else "Nothing was published before."


def _tiles(night: "NightRecord") -> str:
    hits, tail = night.value("fit", "HR", k=100), night.value("fit", "HR", "tail", 100)
    took = f"{((night.ended or night.began) - night.began).total_seconds() / 60:.1f} min"
    shown = {
        "items": _count(night.figures.get("count:items")),
        "edges": _count(night.figures.get("count:edges")),
        "sessions of the day": _count(night.figures.get("count:sessions of the day")),
        "HR@100": "–" if hits is None else f"{hits:.3f}",
        "tail HR@100": "–" if tail is None else f"{tail:.3f}",
        "index recall": "–" if night.index_recall is None else f"{night.index_recall:.3f}",
        "start": "warm" if night.warm else "from scratch",
        "took": took,
    }
    tiles = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in shown.items())
    return f'<div class="tiles">{tiles}</div>'


def _gates(night: "NightRecord") -> str:
    rows = "".join(
        f'<tr><td>{escape(gate.name)}</td><td class="{"good" if gate.passed else "bad"}">'
        f"{'ok' if gate.passed else 'forced' if gate.name in night.forced else 'failed'}</td>"
        f"<td>{_figure(gate.found)}</td><td>{_figure(gate.least)}</td><td>{_figure(gate.most)}</td>"
        f"<td>{escape(gate.remark)}</td></tr>"
        for gate in sorted(night.gates, key=lambda gate: gate.passed)
    )
    head = "<tr><th>gate</th><th></th><th>found</th><th>at least</th><th>at most</th><th></th></tr>"
    return f'<div class="scroll"><table>{head}{rows}</table></div>'


def _quality(night: "NightRecord") -> str:
    cells = {(row["model"], row["slice"], row["metric"], row["k"]): row["value"] for row in night.quality}
    order = {"all": 0, "tail": 1, "cold": 2}
    columns = sorted({key[1:] for key in cells}, key=lambda c: (c[1] == "coverage", order[c[0]], c[1], c[2]))
    models = list(dict.fromkeys(row["model"] for row in night.quality))
    head = "".join(f"<th>{'' if part == 'all' else part + ' '}{metric}@{k}</th>" for part, metric, k in columns)
    body = ""
    for model in models:
        row = [cells.get((model, *column)) for column in columns]
        shown = "".join(f"<td>{'–' if value is None else f'{value:.3f}'}</td>" for value in row)
        body += f"<tr><td>{escape(model)}</td>{shown}</tr>"
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{body}</table></div>'


def _events(night: "NightRecord") -> str:
    days = {dt.date.fromisoformat(day): n for day, n in night.days.items()}
    points = [(float(day.toordinal()), float(n)) for day, n in days.items()]
    return lines({"item events": points}, "Events by day", ticks=_dates(days), zero=True)


def _by_night(nights: "Sequence[NightRecord]", series: object, *, share: bool = False) -> str:
    found: dict[str, list[tuple[float, float]]] = {}
    for night in nights:
        for name, value in series(night).items():  # type: ignore[operator]
            if value is not None:
                found.setdefault(name, []).append((night.date.toordinal(), value))
    days = {dt.date.fromordinal(int(x)): 0 for line in found.values() for x, _ in line}
    return lines(found, "By night", ticks=_dates(days), zero=True, share=share)


def _edges(night: "NightRecord") -> Mapping[str, float]:
    return {kind.replace("_", " "): float(n) for kind, n in night.edges.items()}


def _hits(night: "NightRecord") -> Mapping[str, float | None]:
    return {
        "fit": night.value("fit", "HR", k=100),
        "published before": night.value("published", "HR", k=100),
        "fit, tail": night.value("fit", "HR", "tail", 100),
        "item-kNN": night.value("item-kNN", "HR", k=100),
    }


def _drift(night: "NightRecord") -> Mapping[str, float | None]:
    return {"overlap": night.overlap}


def _degrees(night: "NightRecord") -> str:
    # In the order of the edges' own picture, so that each type has one colour.
    kinds = sorted(night.degrees, key=lambda kind: list(night.edges).index(kind) if kind in night.edges else -1)
    series = {kind.replace("_", " "): [(float(a), float(n)) for a, n in night.degrees[kind]] for kind in kinds}
    return lines(series, "Degrees", logarithmic=True)


def _curve(night: "NightRecord") -> str:
    loss = [(float(step or 0), float(loss)) for step, loss, _ in night.curve if loss is not None]
    score = [(float(step or 0), float(score)) for step, _, score in night.curve if score is not None]
    return lines({"loss": loss}, "Loss by step") + lines({"validation": score}, "Validation by step", share=True)


def _refused(night: "NightRecord") -> dict[str, float]:
    return {f"{table}: {why}": n for table, reasons in night.quarantined.items() for why, n in reasons.items()}


def _dates(days: Mapping[dt.date, object]) -> dict[float, str]:
    return {day.toordinal(): f"{day:%d %b}" for day in (min(days), max(days))} if days else {}


def _midnight(date: dt.date) -> float:
    return dt.datetime.combine(date, dt.time(), dt.UTC).timestamp()


def _count(value: float | None) -> str:
    return "–" if value is None else f"{int(value):,}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
