"""Interaction counters equal a count in plain Python; the fit graph's counters leave out the held-out sessions."""

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graph_build.config import GraphConfig
from graph_build.counters import impression_lists
from graph_build.sessions.assemble import hash_queries
from graph_build.sessions.rows import session_lists
from tests.graph_build.conftest import at, event, table

ITEMS = {"a": ("shoe", "X"), "b": ("shoe", None), "c": (None, "Y"), "d": ("hat", "X"), "e": ("hat", "Y")}
ADVERTISER = {"a": "Ann", "d": "Bob", "f": "Ann"}


def log_rows() -> list[dict[str, Any]]:
    rng = random.Random(3)
    rows = []
    for s in range(50):
        country = [None, "de", " DE", "FR"][s % 4]
        basket = s % 6 == 5
        for n in range(rng.randrange(2, 8)):
            kind = "purchase" if basket else rng.choice(["view", "view", "click", "search"])
            item = None if kind == "search" else rng.choice("abcdef")
            query = rng.choice(["Red ", "red", "blue"]) if kind == "search" else None
            rows.append(event(f"s{s:02}", at(20 * s + n), kind, item, query=query, country=country if n else None))
    return rows


@pytest.fixture(scope="module")
def catalogue_and_ads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tables")
    items = {
        "item_id": list(ITEMS),
        "category": pa.array([category for category, _ in ITEMS.values()], pa.string()),
        "brand": pa.array([brand for _, brand in ITEMS.values()], pa.string()),
    }
    advertisers = [*ADVERTISER.items(), ("a", "Zoe")]
    ads = {
        "ad_id": [f"ad-{n}" for n in range(len(advertisers))],
        "item_id": [item for item, _ in advertisers],
        "campaign_id": ["c"] * len(advertisers),
        "advertiser_id": [name for _, name in advertisers],
    }
    for name, columns in (("items", items), ("ads", ads)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return {name: str(folder / f"{name}.parquet") for name in ("items", "ads")}


def count_one_by_one(out: Path) -> dict[tuple[str, str, str], list[float]]:
    """Count the pairs one by one; return the counts [full, fit] of each (kind, src, dst)."""
    counts: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def count(src: dict[str, str | None], dst_item: str, weight: float, is_held_out: bool) -> None:
        category, brand = ITEMS.get(dst_item, (None, None))
        dst = {"item": dst_item, "category": category, "brand": brand, "advertiser": ADVERTISER.get(dst_item)}
        for src_entity, dst_entities in {
            "item": ("item", "category", "brand", "advertiser"),
            "category": ("item", "category", "brand"),
            "query": ("item", "category"),
            "country": ("item", "category"),
        }.items():
            for dst_entity in dst_entities:
                if src.get(src_entity) is not None and dst[dst_entity] is not None:
                    cell = counts[f"{src_entity}>{dst_entity}", str(src[src_entity]), str(dst[dst_entity])]
                    cell[0] += weight
                    cell[1] += 0 if is_held_out else weight

    for row in table(out / "transitions"):
        weight = 1 / row["steps"] if row["kind"] == "strong_click" else 1.0
        count({"item": row["src"], "category": ITEMS.get(row["src"], (None,))[0]}, row["dst"], weight, row["held"])
    for row in table(out / "sessions"):
        if row["kind"] == "browse":
            for item, search in zip(row["items"], row["searches"], strict=True):
                count({"query": search, "country": row["country"]}, item, 1.0, row["held"])
    return dict(counts)


@pytest.mark.slow
def test_counters_equal_a_count_in_plain_python(built: Callable[..., Any], catalogue_and_ads: dict[str, str]) -> None:
    _, out = built(log_rows(), config=GraphConfig(counters=True), **catalogue_and_ads)
    expected = count_one_by_one(out)
    counts = {(row["kind"], row["src"], row["dst"]): [row["full"], row["fit"]] for row in table(out / "counters")}
    assert counts
    assert counts.keys() == expected.keys()
    assert {kind for kind, _, _ in counts} >= {"item>advertiser", "category>brand", "query>item", "country>category"}
    for key, cell in expected.items():
        assert counts[key] == pytest.approx(cell), key
    assert all(full >= fit for full, fit in counts.values())
    assert any(full > fit for full, fit in counts.values()), "the fit graph leaves out the held-out sessions"


def test_a_session_lists_the_search_of_each_item_and_its_country(assembled: Callable[..., Any]) -> None:
    rows = [
        event("s", at(0), "view", "a"),
        event("s", at(1), "search", query=" RED  shoes"),
        event("s", at(2), "click", "b", country="de "),
        event("s", at(3), "view", "c", query="blue", country="FR"),
        event("s", at(4), "view", "d"),
        event("t", at(5), "purchase", "a"),
    ]
    (red, blue), _ = hash_queries(pa.array(["red shoes", "blue"]))
    rows = session_lists(assembled(rows), GraphConfig().co_purchase).collect()
    lists = {row["kind"]: (row["items"], row["searches"], row["country"]) for row in rows}
    assert lists["browse"] == (["a", "b", "c", "d"], [None, red, blue, red], "DE")
    assert lists["basket"] == (["a"], [None], None)


def test_impressions_list_the_items_that_a_request_showed_and_those_that_were_opened(
    checked: Callable[..., Any],
) -> None:
    def requested(minute: float, kind: str, item: str, request: str | None) -> dict[str, Any]:
        return event("s", at(minute), kind, item, request_id=request)

    rows = [
        requested(0, "view", "a", None),
        *(requested(1, "impression", item, "first") for item in "cbbd"),
        requested(2, "click", "b", "first"),
        requested(3, "add_to_cart", "c", "first"),
        requested(4, "purchase", "f", "first"),  # was never shown
        *(requested(5, "impression", item, "nothing opened") for item in "ab"),
        *(requested(6, kind, "e", "one item") for kind in ("impression", "click")),
        *(requested(7, kind, item, "all opened") for kind in ("impression", "click") for item in "ab"),
        requested(8, "impression", "a", None),
        event(None, at(9), "impression", "a", request_id="first"),
        event("t", at(9), "impression", "z", request_id="first"),  # of another session
    ]
    events = checked(rows)
    (impression,) = impression_lists(events.rows).collect()
    assert impression["items"] == ["b", "c", "d"]
    assert sorted(impression["opened"]) == ["b", "c"]
    assert impression["time"].astimezone(dt.UTC) == at(1)
    sessions = {row["session"] for row in events.rows.where("session_id = 's'").select("session").collect()}
    assert {impression["session"]} == sessions


def test_a_request_of_a_user_without_session_ids_belongs_to_the_session_in_which_it_was_opened(
    checked: Callable[..., Any], assembled: Callable[..., Any]
) -> None:
    rows = [event(None, at(minute), "view", "a", user_id=user) for user in "uv" for minute in (0, 100, 200)]
    rows += [event(None, at(90), "impression", item, user_id="u", request_id="r") for item in "bc"]
    rows.append(event(None, at(101), "click", "b", user_id="u", request_id="r"))
    sessions = assembled(rows)
    (impression,) = impression_lists(checked(rows).rows, sessions).collect()
    of_click = [row["session"] for row in sessions.collect() if "b" in row["item_id"]]
    assert [impression["session"]] == of_click
