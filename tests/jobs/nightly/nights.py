"""The record of a night, shared by the tests of files that are made from a record."""

import datetime as dt

from jobs.nightly.gates import Gate
from jobs.nightly.record import NightRecord

DAY = dt.date(2026, 3, 6)


def published_night(day: dt.date = DAY) -> NightRecord:
    """Return a published night with a value in every field, and one gate that failed."""
    quality = [
        {"model": model, "slice": part, "metric": metric, "k": k, "value": value, "low": 0.1, "high": 0.9, "n": 7}
        for model, value in (("fit", 0.41), ("published", 0.39))
        for part in ("all", "tail", "cold")
        for metric, k in (("HR", 20), ("HR", 100), ("MRR", 20))
    ]
    return NightRecord(
        date=day,
        began=dt.datetime(2026, 3, 7, 2, 56, 12, tzinfo=dt.UTC),
        ended=dt.datetime(2026, 3, 7, 3, tzinfo=dt.UTC),
        outcome="published",
        version="20260306T235959-01234567",
        parent="20260305T235959-89abcdef",
        gates=[
            Gate(name="edges", value=12_345, least=10_000, passed=True),
            Gate(name="items <b>", value=None, passed=False, remark="less & less"),
            Gate(name="coverage@20", value=0.5, passed=True, judged=False, remark="9 queries"),
        ],
        days={str(day - dt.timedelta(days=1)): 10, str(day): 20},
        edges={"swing": 9, "co_search": 0},
        figures={"count:items": 50, "count:edges": 9, "count:sessions of the day": 3, "alone": 0.2},
        ads={
            "total": 7,
            "by_status": {"active": 6, "paused": 1},
            "in_flight": 5,
            "without_item": 1,
            "rows": 8,
            "lost_share": 0.125,
        },
        quarantined={"events": {"no_item": 2}, "ads": {}},
        doubts=["no events are stored of 2026-03-01 <script>"],
        degrees={"swing": [(1, 9), (2, 3)]},
        curve=[[1, 5.0, 0.2], [2, 4.0, None]],
        quality=quality,
        ratios={"published": {"all": [1.0, 0.9, 1.1, 7, 3]}},
        overlap=0.8,
        index_recall=0.99,
        stages=[{"name": "graph", "seconds": 3.25, "peak_bytes": 2**30}],
        reused=["ingest"],
        removed=["20260201T000000-00000000"],
    )
