"""What the caps cut is said by name, the same from a log and from stored days, and stands in the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import CoPurchaseConfig, CoSearchConfig, GraphConfig, StrongClickConfig, SwingConfig
from graph_build.days import store as days
from tests.graph_build.conftest import at, event, write_events

CONFIG = GraphConfig(
    strong_click=StrongClickConfig(max_session_items=4),
    co_purchase=CoPurchaseConfig(max_basket_items=3),
    co_search=CoSearchConfig(max_items_per_search=3),
    swing=SwingConfig(max_user_items=5, max_item_users=7),
)


def test_the_star_the_bot_and_the_flood_are_named(spark: Any, built: Callable[..., Any], tmp_path: Path) -> None:
    rows = [event(f"fan-{i}", at(i), "view", "star", user_id=f"fan-{i}") for i in range(9)]
    rows += [event("bot", at(i), "click", f"i{i}", user_id="bot") for i in range(8)]
    rows += [event("basket", at(i), "purchase", f"i{i}", user_id="buyer") for i in range(5)]
    for part in range(2):
        rows.append(event(f"flood-{part}", at(20 * part), "search", query="  Every THING ", user_id="searcher"))
        rows += [
            event(f"flood-{part}", at(20 * part + 1 + i), "view", f"j{3 * part + i}", user_id="searcher")
            for i in range(3)
        ]
    summary, out = built(rows, config=CONFIG)
    bot, searcher = (
        f"{row[0] >> 16 & 2**48 - 1:012x} on {at(0).date()}"
        for row in spark.createDataFrame([("bot",), ("searcher",)], "id string").selectExpr("xxhash64(id)").collect()
    )
    assert summary.most_cut == {
        "session_items": {"bot": 8},
        "basket_items": {"basket": 5},
        "co_search_items": {"  Every THING ".strip(): 6},
        "swing_item_users": {"star": 9},
        "swing_user_items": {bot: 8, searcher: 6},
    }
    assert summary.capped == {
        "session_items": 4, "basket_items": 2, "co_search_items": 3, "swing_item_users": 2, "swing_user_items": 4,
    }  # fmt: skip
    page = (out / "report.html").read_text()
    for name in ("bot (8)", "Every THING (6)", "star (9)"):
        assert name in page

    log = write_events(tmp_path / "log.parquet", rows)
    root = str(tmp_path / "days")
    days.ingest(spark, [log], root, CONFIG)
    stored = build_graphs(spark, GraphInputs(days=root), str(tmp_path / "night"), CONFIG)
    assert stored.most_cut == summary.most_cut
    assert stored.capped == summary.capped
