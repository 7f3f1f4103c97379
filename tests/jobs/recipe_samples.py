"""Small logs in the exact layouts of the raw files that recipes read, all made from one small made-up shop."""

import csv
import datetime as dt
import gzip
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SESSIONS, ITEMS = 90, 24
BEGIN = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
_ARTICLE = """
    article_id product_code prod_name product_type_no product_type_name product_group_name graphical_appearance_no
    graphical_appearance_name colour_group_code colour_group_name perceived_colour_value_id perceived_colour_value_name
    perceived_colour_master_id perceived_colour_master_name department_no department_name index_code index_name
    index_group_no index_group_name section_no section_name garment_group_no garment_group_name detail_desc
"""
ARTICLE_COLUMNS = _ARTICLE.split()
NAMES = ("kettle", "lamp", "chair", "rug", "mug", "shelf")


@dataclass(frozen=True)
class Event:
    """One event of the shop: `kind` is view, cart or buy."""

    session: int
    user: int
    time: dt.datetime
    kind: str
    item: int
    step: int


@dataclass(frozen=True)
class RawFiles:
    """The raw files of a recipe.

    Args:
        events: the files that `--events` takes.
        items: the file that `--items` takes.
        types: how many events of each type the recipe keeps.
        others: files of the raw data that the recipe leaves out.
        rows: how many rows of each type the files have, if copies make that more than `types`; else empty.
    """

    events: list[Path]
    items: Path | None
    types: dict[str, int]
    others: list[Path] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


def shop() -> list[Event]:
    """Return events: a session views four items in turn; some put the last one into the cart, and some then buy it."""
    chance = random.Random(7)
    events = []
    for session in range(SESSIONS):
        start = BEGIN + dt.timedelta(minutes=41 * session)
        user, item = session % 40, chance.randrange(ITEMS)
        for step in range(4):
            events.append(Event(session, user, start + dt.timedelta(minutes=step), "view", item, step))
            if step == 3 and session % 3 == 0:
                events.append(Event(session, user, start + dt.timedelta(minutes=5), "cart", item, 4))
            if step == 3 and session % 6 == 0:
                events.append(Event(session, user, start + dt.timedelta(minutes=6), "buy", item, 5))
            item = (item + chance.choice((1, 1, 2))) % ITEMS
    return events


def counts(events: Iterable[Event], **names: str) -> dict[str, int]:
    """Count events by LightSAGE's types; `names` gives the type of each kind, and other kinds are left out."""
    kinds = [names[event.kind] for event in events if event.kind in names]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    open_ = gzip.open if path.suffix == ".gz" else open
    with open_(path, "wt", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerows([header] if header else [])
        writer.writerows(rows)
    return path


def _json_lines(path: Path, records: Iterable[Any]) -> Path:
    open_ = gzip.open if path.suffix == ".gz" else open
    with open_(path, "wt") as file:
        file.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)
    return path


def _millis(time: dt.datetime) -> int:
    return round(time.timestamp() * 1000)


def _iso(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


def retailrocket(folder: Path) -> RawFiles:
    """events.csv, and the properties of items, which the recipe leaves out."""
    names = {"view": "view", "cart": "addtocart", "buy": "transaction"}
    events = shop()
    rows = [
        (_millis(e.time), e.user, names[e.kind], 1000 + e.item, e.session if e.kind == "buy" else "") for e in events
    ]
    path = _csv(folder / "events.csv", ("timestamp", "visitorid", "event", "itemid", "transactionid"), rows)
    properties = [(_millis(BEGIN), 1000 + item, "categoryid", 7) for item in range(ITEMS)]
    other = _csv(folder / "item_properties_part1.csv", ("timestamp", "itemid", "property", "value"), properties)
    return RawFiles([path], None, counts(events, view="view", cart="add_to_cart", buy="purchase"), [other])


def otto(folder: Path) -> RawFiles:
    """One JSON object per session, with the list of its events."""
    names = {"view": "clicks", "cart": "carts", "buy": "orders"}
    events = shop()
    sessions: dict[int, list[dict[str, Any]]] = {}
    for e in events:
        event = {"aid": 59000 + e.item, "ts": _millis(e.time), "type": names[e.kind]}
        sessions.setdefault(e.session, []).append(event)
    records = [{"session": 12_000_000 + session, "events": of_session} for session, of_session in sessions.items()]
    path = _json_lines(folder / "otto-recsys-train.jsonl", records)
    return RawFiles([path], None, counts(events, view="click", cart="add_to_cart", buy="purchase"))


def hm(folder: Path) -> RawFiles:
    """Purchases with their day, and articles; ids of customers are long hashes, ids of articles begin with a zero."""
    events = shop()
    rows = [
        (
            f"{e.time:%Y-%m-%d}",
            f"{e.user:064x}",
            f"0{e.item + 108775015:09d}",
            f"{0.01 + e.item / 1000:.18f}",
            1 + e.user % 2,
        )
        for e in events
    ]
    header = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")
    path = _csv(folder / "transactions_train.csv", header, rows)
    names = ARTICLE_COLUMNS
    articles = [
        [
            f"0{item + 108775015:09d}",
            *(f"{name} {item % 5}, {item % 3}" if name.endswith(("name", "desc")) else item % 7 for name in names[1:]),
        ]
        for item in range(ITEMS)
    ]
    items = _csv(folder / "articles.csv", names, articles)
    other = _csv(folder / "customers.csv", ("customer_id", "FN", "Active", "age"), [(f"{7:064x}", "", "", 31)])
    baskets = len({(e.user, e.time.date(), e.item) for e in events})
    return RawFiles([path], items, {"purchase": baskets}, [other], {"purchase": len(rows)})


def rees46(folder: Path) -> RawFiles:
    """CSV in gzip; times end in "UTC", some codes and brands are missing, and one item is taken out of a cart."""
    names = {"view": "view", "cart": "cart", "buy": "purchase"}
    events = shop()
    rows = [
        (
            f"{e.time:%Y-%m-%d %H:%M:%S} UTC",
            names[e.kind],
            1_000_000 + e.item,
            2_053_013_555_631_882_655 + e.item % 3,
            f"home.{NAMES[e.item % 3]}" if e.item % 4 else "",
            f"brand{e.item % 5}" if e.item % 6 else "",
            f"{10 + e.item:.2f}",
            541_000_000 + e.user,
            f"{e.session:08x}-3c80-4f6c-b0ae-5e1f1a0c1d7e",
        )
        for e in events
    ]
    rows += [(rows[0][0], "remove_from_cart", *rows[0][2:])]
    header = ("event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price", "user_id")
    header += ("user_session",)
    path = _csv(folder / "2019-Oct.csv.gz", header, rows)
    return RawFiles([path], path, counts(events, view="view", cart="add_to_cart", buy="purchase"))


def yoochoose(folder: Path) -> RawFiles:
    """Files without a header: clicks, and purchases, which have other columns."""
    events = shop()
    clicks = [
        (e.session + 1, _iso(e.time), 214_500_000 + e.item, ("S", "0", "1", "2089120000")[e.item % 4])
        for e in events
        if e.kind == "view"
    ]
    path = _csv(folder / "yoochoose-clicks.dat", (), clicks)
    buys = [(e.session + 1, _iso(e.time), 214_500_000 + e.item, 12462, 1) for e in events if e.kind == "buy"]
    _csv(folder / "yoochoose-buys.dat", (), buys)
    return RawFiles([path], path, counts(events, view="view"))


def diginetica(folder: Path) -> RawFiles:
    """Values separated by semicolons; most users are NA, and `timeframe` gives the order within a session."""
    events = [e for e in shop() if e.kind == "view"]
    rows = [
        (
            e.session + 1,
            e.user if e.session % 3 == 0 else "NA",
            81766 + e.item,
            e.step * 60_000 + 17,
            f"{e.time:%Y-%m-%d}",
        )
        for e in events
    ]
    header = ("sessionId", "userId", "itemId", "timeframe", "eventdate")
    path = _csv(folder / "train-item-views.csv", header, rows, ";")
    products = [(81766 + item, 1 + item % 10, f"{4875 + item},776,{56689 - item}") for item in range(ITEMS)]
    items = _csv(folder / "products.csv", ("itemId", "pricelog2", "product.name.tokens"), products, ";")
    categories = [(81766 + item, item % 5) for item in range(ITEMS)]
    other = _csv(folder / "product-categories.csv", ("itemId", "categoryId"), categories, ";")
    return RawFiles([path], items, counts(events, view="view"), [other])


def ga4(folder: Path) -> RawFiles:
    """A table of the BigQuery export in parquet: items and parameters are lists of records."""
    names = {"view": "view_item", "cart": "add_to_cart", "buy": "purchase"}
    parameter = pa.struct(
        [
            ("key", pa.string()),
            (
                "value",
                pa.struct([("string_value", pa.string()), ("int_value", pa.int64()), ("double_value", pa.float64())]),
            ),
        ]
    )
    item = pa.struct(
        [
            *((name, pa.string()) for name in ("item_id", "item_name", "item_brand", "item_category")),
            ("price", pa.float64()),
            ("quantity", pa.int64()),
        ]
    )
    schema = pa.schema(
        [
            ("event_date", pa.string()),
            ("event_timestamp", pa.int64()),
            ("event_name", pa.string()),
            ("event_params", pa.list_(parameter)),
            ("user_id", pa.string()),
            ("user_pseudo_id", pa.string()),
            ("geo", pa.struct([("country", pa.string()), ("city", pa.string())])),
            ("items", pa.list_(item)),
        ]
    )
    events = shop()
    rows: list[dict[str, Any]] = []
    for e in events:
        row = {
            "event_date": f"{e.time:%Y%m%d}",
            "event_timestamp": _millis(e.time) * 1000 + 11,
            "event_params": [{"key": "ga_session_id", "value": {"int_value": 1_772_000_000 + e.session}}],
            "user_pseudo_id": f"{1_900_000_000 + e.user}.{1_600_000_000 + e.user}",
            "geo": {"country": "Germany", "city": "Kassel"},
        }
        listed = {
            "item_id": f"SKU_{e.item}",
            "item_name": f"{NAMES[e.item % 6]} {e.item}",
            "item_brand": f"brand{e.item % 5}",
            "item_category": f"Home/{NAMES[e.item % 3]}",
            "price": 10.0 + e.item,
            "quantity": 1,
        }
        if e.step == 0:
            rows.append({**row, "event_name": "session_start", "items": []})
        if e.kind == "cart":
            rows.append({**row, "event_name": "begin_checkout", "items": [listed]})
        rows.append({**row, "event_name": names[e.kind], "items": [listed]})
    path = folder / "events_20260302-000000000000.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return RawFiles([path], path, counts(events, view="view", cart="add_to_cart", buy="purchase"))


def segment(folder: Path) -> RawFiles:
    """The log of a day: calls of all kinds as JSON lines in gzip; an order holds its products in a list."""
    names = {"view": "Product Viewed", "cart": "Product Added"}
    events = shop()
    records: list[dict[str, Any]] = []
    for n, e in enumerate(events):
        call = {
            "anonymousId": f"{e.user:032x}",
            "context": {"library": {"name": "analytics.js", "version": "next-1.70.0"}, "ip": "8.8.8.8"},
            "integrations": {},
            "messageId": f"ajs-next-{n:032x}",
            "originalTimestamp": _iso(e.time),
            "receivedAt": _iso(e.time + dt.timedelta(seconds=2)),
            "sentAt": _iso(e.time + dt.timedelta(seconds=1)),
            "timestamp": _iso(e.time),
            "type": "track",
            "userId": None,
        }
        product = {"product_id": f"p-{e.item}", "sku": f"G-{e.item}", "name": NAMES[e.item % 6], "price": 18.99}
        if e.step == 0:
            records.append({**call, "messageId": f"page-{n}", "type": "page", "properties": {"path": "/"}})
        if e.kind == "buy":
            order = {"order_id": str(e.session), "products": [{**product, "quantity": 1}]}
            records.append({**call, "event": "Order Completed", "properties": order})
        else:
            records.append({**call, "event": names[e.kind], "properties": {**product, "position": 3}})
    path = _json_lines(folder / "1772438400000.abc.1.gz", records)
    return RawFiles([path], None, counts(events, view="view", cart="add_to_cart"))


def snowplow(folder: Path) -> RawFiles:
    """Enriched events as an analytics SDK writes them: contexts are lists of records, the action is a record."""
    names = {"view": "product_view", "cart": "add_to_cart", "buy": "transaction"}
    vendor = "com_snowplowanalytics_snowplow"
    events = shop()
    records: list[dict[str, Any]] = []
    for n, e in enumerate(events):
        atomic = {
            "app_id": "shop",
            "platform": "web",
            "collector_tstamp": _iso(e.time + dt.timedelta(seconds=1)),
            "dvce_created_tstamp": _iso(e.time),
            "event": "unstruct",
            "event_id": f"{n:08x}-0f8a-4b6c-9d1e-2f3a4b5c6d7e",
            "user_id": None,
            "domain_userid": f"{e.user:08x}-aaaa-4b6c-9d1e-2f3a4b5c6d7e",
            "domain_sessionidx": 1,
            "domain_sessionid": f"{e.session:08x}-bbbb-4b6c-9d1e-2f3a4b5c6d7e",
            "derived_tstamp": _iso(e.time),
            "geo_country": "DE",
            "page_urlpath": f"/p/{e.item}",
            "event_name": "snowplow_ecommerce_action",
            f"contexts_{vendor}_web_page_1": [{"id": f"{n:08x}-cccc-4b6c-9d1e-2f3a4b5c6d7e"}],
        }
        product = {
            "id": f"P{e.item}",
            "name": f"{NAMES[e.item % 6]} {e.item}",
            "category": f"home/{NAMES[e.item % 3]}",
            "price": 10.5 + e.item,
            "currency": "EUR",
            "brand": f"brand{e.item % 5}",
        }
        if e.step == 0:
            records.append({**atomic, "event": "page_view", "event_name": "page_view", "event_id": f"page-{n}"})
        action = {
            f"unstruct_event_{vendor}_ecommerce_snowplow_ecommerce_action_1": {"type": names[e.kind]},
            f"contexts_{vendor}_ecommerce_product_1": [product],
        }
        records.append(atomic | action)
    path = _json_lines(folder / "enriched.jsonl", records)
    return RawFiles([path], path, counts(events, view="view", cart="add_to_cart", buy="purchase"))


def instacart(folder: Path) -> RawFiles:
    """The products of orders, without times; orders stand in a file of their own, which the recipe leaves out."""
    events = [e for e in shop() if e.kind == "view"]
    seen: set[tuple[int, int]] = set()
    rows = []
    for e in events:
        if (e.session, e.item) not in seen:
            seen.add((e.session, e.item))
            rows.append((2_000_000 + e.session, 33_120 + e.item, e.step + 1, e.session % 2))
    header = ("order_id", "product_id", "add_to_cart_order", "reordered")
    path = _csv(folder / "order_products__prior.csv", header, rows)
    products = [(33_120 + item, f"{NAMES[item % 6]}, {item}", 1 + item % 6, 1 + item % 3) for item in range(ITEMS)]
    items = _csv(folder / "products.csv", ("product_id", "product_name", "aisle_id", "department_id"), products)
    orders = [(2_000_000 + s, s % 40, "prior", 1 + s // 40, s % 7, f"{s % 24:02d}", "") for s in range(SESSIONS)]
    names = ("order_id", "user_id", "eval_set", "order_number", "order_dow", "order_hour_of_day")
    names += ("days_since_prior_order",)
    return RawFiles([path], items, {"purchase": len(rows)}, [_csv(folder / "orders.csv", names, orders)])


def amazon_m2(folder: Path) -> RawFiles:
    """One row per session: its items are a list as numpy prints it, on several lines if the list is long."""
    events = [e for e in shop() if e.kind == "view"]
    rows = []
    for session in range(SESSIONS):
        items = [f"B09{e.item:07d}" for e in events if e.session == session]
        before = f"['{items[0]}' '{items[1]}'\n '{items[2]}']"
        rows.append((before, items[3], ("UK", "DE", "JP")[session % 3]))
    path = _csv(folder / "sessions_train.csv", ("prev_items", "next_item", "locale"), rows)
    names = ("id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc")
    products = [
        (
            f"B09{item:07d}",
            locale,
            f"{NAMES[item % 6]} {item}",
            9.99 + item,
            f"brand{item % 5}",
            "red",
            "",
            "",
            "wood",
            "",
            "…",
        )
        for item in range(ITEMS)
        for locale in ("DE", "UK")
    ]
    items = _csv(folder / "products_train.csv", names, products)
    return RawFiles([path], items, {"view": 3 * SESSIONS})


def weblog(folder: Path) -> RawFiles:
    """A web log in the combined format, with requests for pictures, requests of a robot, and failed requests."""
    names = {"view": "product", "cart": "cart", "buy": "order"}
    events = shop()
    lines = []
    for e in events:
        time = e.time.strftime("%d/%b/%Y:%H:%M:%S +0000")
        browser = f"Mozilla/5.0 (X11; Linux x86_64) Shop/{e.user % 4}"
        start = f"192.0.2.{e.user} - - [{time}]"
        method = "GET" if e.kind == "view" else "POST"
        page = f'"{method} /{names[e.kind]}/sku-{e.item}?ref=list HTTP/1.1"'
        lines += [
            f'{start} {page} 200 5120 "https://shop.example/" "{browser}"',
            f'{start} "GET /img/sku-{e.item}.jpg HTTP/1.1" 200 90210 "-" "{browser}"',
        ]
        if e.step == 0:
            lines += [
                f'{start} "GET / HTTP/1.1" 200 700 "-" "{browser}"',
                f'{start} "GET /product/gone HTTP/1.1" 404 33 "-" "{browser}"',
                f'{start} "GET /product/sku-{e.item} HTTP/1.1" 200 5120 "-" "Examplebot/2.1 (+http://bot.example)"',
            ]
    path = folder / "access.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return RawFiles([path], None, counts(events, view="view", cart="add_to_cart", buy="purchase"))


SAMPLES: dict[str, Callable[[Path], RawFiles]] = {
    make.__name__: make
    for make in (
        retailrocket, otto, hm, rees46, yoochoose, diginetica, ga4, segment, snowplow, instacart, amazon_m2, weblog,
    )
}  # fmt: skip
