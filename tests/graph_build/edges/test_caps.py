"""The summary and the report name the groups that the caps cut most, from a log as well as from stored days."""

from pathlib import Path
from typing import Any

import pytest

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import CoPurchaseConfig, CoSearchConfig, GraphConfig, StrongClickConfig, SwingConfig
from graph_build.days.ingest import ingest
from graph_build.edges.caps import SHOWN_GROUPS, CutGroup, group_by_rule
from tests.graph_build.conftest import at, event, write_events

CONFIG = GraphConfig(
    strong_click=StrongClickConfig(max_session_items=4),
    co_purchase=CoPurchaseConfig(max_basket_items=3),
    co_search=CoSearchConfig(max_items_per_search=3),
    swing=SwingConfig(max_user_items=5, max_item_users=7),
)


def log_rows() -> list[dict[str, Any]]:
    """Return events of a popular item, a bot, a big basket, and a search that two sessions of one user share."""
    rows = [event(f"fan-{i}", at(i), "view", "star", user_id=f"fan-{i}") for i in range(9)]
    rows += [event("bot", at(i), "click", f"i{i}", user_id="bot") for i in range(8)]
    rows += [event("basket", at(i), "purchase", f"i{i}", user_id="buyer") for i in range(5)]
    for part in range(2):
        rows.append(event(f"flood-{part}", at(20 * part), "search", query="  Every THING ", user_id="searcher"))
        rows += [
            event(f"flood-{part}", at(20 * part + 1 + i), "view", f"j{3 * part + i}", user_id="searcher")
            for i in range(3)
        ]
    return rows


@pytest.fixture(scope="module")
def build(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, str]:
    """Return the summary of a build, its folder, and the log it was built from."""
    folder = tmp_path_factory.mktemp("caps")
    log = write_events(folder / "log.parquet", log_rows())
    return build_graphs(spark, GraphInputs([log]), str(folder / "graph"), CONFIG), folder / "graph", log


@pytest.mark.parametrize(
    ("rule", "groups", "removed"),
    [
        ("session_items", {"bot": 8}, 4),
        ("basket_items", {"basket": 5}, 2),
        ("co_search_items", {"Every THING": 6}, 3),
        ("swing_item_users", {"star": 9}, 2),
    ],
)
def test_a_rule_names_the_groups_that_it_cut(
    build: tuple[Any, Path, str], rule: str, groups: dict[str, int], removed: int
) -> None:
    assert build[0].most_cut[rule] == groups
    assert build[0].capped[rule] == removed


def test_users_are_named_by_their_hash_and_day(spark: Any, build: tuple[Any, Path, str]) -> None:
    users = spark.createDataFrame([("bot",), ("searcher",)], "id string")
    bot, searcher = (
        f"{row[0] >> 16 & 2**48 - 1:012x} on {at(0).date()}" for row in users.selectExpr("xxhash64(id)").collect()
    )
    assert build[0].most_cut["swing_user_items"] == {bot: 8, searcher: 6}
    assert build[0].capped["swing_user_items"] == 4


def test_only_these_rules_are_named(build: tuple[Any, Path, str]) -> None:
    rules = {"session_items", "basket_items", "co_search_items", "swing_item_users", "swing_user_items"}
    assert build[0].most_cut.keys() == build[0].capped.keys() == rules


def test_the_report_shows_the_groups_with_their_size(build: tuple[Any, Path, str]) -> None:
    page = (build[1] / "report.html").read_text()
    for group, members in {"bot": 8, "Every THING": 6, "star": 9}.items():
        assert f'<td class="named">{group}</td><td>{members}</td>' in page


@pytest.mark.slow
def test_stored_days_name_the_same_groups(spark: Any, build: tuple[Any, Path, str], tmp_path: Path) -> None:
    summary, _, log = build
    root = str(tmp_path / "days")
    ingest(spark, [log], root, CONFIG)
    from_days = build_graphs(spark, GraphInputs(days=root), str(tmp_path / "night"), CONFIG)
    assert from_days.most_cut == summary.most_cut
    assert from_days.capped == summary.capped


def test_a_rule_shows_its_largest_groups_and_each_name_once_with_its_largest_size() -> None:
    groups = [CutGroup("rule", f"g{n:02}", n) for n in range(SHOWN_GROUPS + 5)]
    shown = group_by_rule([*groups, CutGroup("rule", "g14", 3)])["rule"]
    assert list(shown.items()) == [(f"g{n:02}", n) for n in range(14, 14 - SHOWN_GROUPS, -1)]
