"""The row of a session: the format of sessions in Spark and in stored days.

A row holds the events of one session in parallel lists, so that every later step works on single rows: it needs
no shuffle by session, and files may be split anywhere between rows.
"""

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema

SESSION_ROW = pa.schema(
    [
        # Hash of session id and day; without a session id, the result of `pauses.session_number`.
        ("session", pa.int64()),
        ("id", pa.int64()),  # hash of the session id; null without one, and in days that earlier releases stored
        ("day", pa.int32()),  # days since 1970-01-01
        ("start", pa.int64()),  # all times are microseconds since 1970
        ("browsed", pa.bool_()),  # has a view or a click
        ("logged", pa.bool_()),  # has an event with a source item; then only such links count as strong clicks
        ("counted", pa.int32()),  # events with `kernel.COUNTED`
        ("cut", pa.int32()),  # items beyond the cap
        ("duplicates", pa.int32()),  # events that were dropped
        ("of_type", pa.list_(pa.int32())),  # number of events by `contract.SESSION_TYPES`
        # From here on, lists have an element for each event.
        ("time", pa.list_(pa.int64())),
        ("type", pa.list_(pa.int8())),  # position in `contract.SESSION_TYPES`
        ("user", pa.list_(pa.int64())),
        ("item", pa.list_(pa.int64())),  # hash of item_id; null for a search
        ("item_id", pa.list_(pa.string())),
        ("source", pa.list_(pa.int64())),  # hash of source_id
        ("source_id", pa.list_(pa.string())),
        ("search", pa.list_(pa.int64())),  # hash of the query that the event belongs to
        ("segment", pa.list_(pa.int32())),  # number of searches that began before the event or with it
        ("flags", pa.list_(pa.int8())),  # bits of `kernel`
        ("country", pa.string()),  # the first country that an event of the session names
    ]
)
SESSION_ROW_IN_SPARK = from_arrow_schema(SESSION_ROW)
