"""The dashboard and the alert rules of docs/deploy name only metrics and labels that servers and nights have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from jobs.nightly.metrics import metrics_text
from jobs.nightly.report import OUTCOMES
from tests.jobs.nightly.nights import published_night
from tests.source_tree import ROOT

DEPLOY = ROOT / "docs" / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
# Labels that Prometheus itself adds to every scraped metric.
SCRAPED = {"instance", "job"}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture(scope="module")
def exported(world, catalogue, edges) -> dict[str, set[str]]:
    """Return the labels of each metric of a server or a night, by the metric's name."""
    from tests.retrieval.conftest import Shop

    with Shop(world, catalogue, edges).serving() as client:
        client.post("/v1/retrieve", json={"items": ["item00003"], "k": 5})
        text = client.get("/metrics").text
    labels: dict[str, set[str]] = {}
    for family in (
        *text_string_to_metric_families(text),
        *text_string_to_metric_families(metrics_text(published_night())),
    ):
        for suffix in SUFFIXES[family.type]:
            labels[family.name + suffix] = set()
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every metric of an expression, with the values of its label matchers."""
    for name, matchers in re.findall(r"\b(lightsage_\w+|up)\b(?:\{(.*?)\})?", expression):
        yield name, dict(re.findall(r'(\w+)\s*[=!]~?\s*"(.*?)"', matchers))


def test_every_metric_and_label_exists(exported: dict[str, set[str]]) -> None:
    wrong = [
        f"{name}{sorted(matchers)} in {expression}"
        for expression in EXPRESSIONS
        for name, matchers in selectors(expression)
        if name != "up" and (name not in exported or not set(matchers) <= exported[name] | SCRAPED)
    ]
    assert not wrong
    assert all(any(selectors(expression)) for expression in EXPRESSIONS)


def test_the_dashboard_shows_every_metric(exported: dict[str, set[str]]) -> None:
    shown = {name for panel in PANELS for target in panel["targets"] for name, _ in selectors(target["expr"])}
    bases = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported if not name.endswith("_created")}
    assert bases - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} == set()


def test_outcomes_and_endpoints_are_those_that_exist() -> None:
    found = [matchers for expression in EXPRESSIONS for _, matchers in selectors(expression)]
    assert {each["outcome"] for each in found if "outcome" in each} <= {*OUTCOMES, "running"}
    assert {each["endpoint"] for each in found if "endpoint" in each} == {"/v1/retrieve"}


def test_expressions_are_promql() -> None:
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    for expression in EXPRESSIONS:
        promql.parse(expression.replace("$__rate_interval", "5m"))


def test_rules_have_what_prometheus_requires() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        # Grouping leaves only some labels that the text can use.
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        grouped = re.match(r"\w+ by \((.*?)\)", rule["expr"])
        assert used <= (set(grouped[1].split(", ")) if grouped else SCRAPED)


def test_panels_do_not_overlap_and_use_the_chosen_data_source() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid: dict[str, int] = panel["gridPos"]
        area = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _ in area) < 24
        assert not area & cells
        cells |= area
    sources: list[Any] = [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
