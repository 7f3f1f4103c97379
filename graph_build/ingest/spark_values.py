"""Turns columns of Spark into the contract's kinds, by the grammar of `values`; `spark_reader` uses it."""

import re
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import functions as F

from graph_build.config import TimeUnit
from graph_build.ingest.contract import Kind, is_number, is_text, value_type
from graph_build.ingest.values import (
    ASCII_BLANKS,
    BASIC_FORMS,
    BLANKS,
    DAY,
    END_OF_TIMES,
    FIRST_TIME,
    SCALES,
    WRITTEN_COUNT,
    WRITTEN_NUMBER,
    WRITTEN_TIME,
    TimeScale,
)

if TYPE_CHECKING:
    from pyspark.sql import Column

SPARK_TYPES: dict[Kind, str] = {
    "id": "string",
    "text": "string",
    "time": "timestamp",
    "number": "double",
    "integer": "bigint",
    "vector": "array<float>",
    "words": "array<string>",
}
_JAVA_TIME = WRITTEN_TIME.replace("(?P<", "(?<")
_GROUPS = dict(re.compile(WRITTEN_TIME).groupindex)
_NUMBERS = ("year", "month", "day", "ordinal", "week", "weekday", "hour", "minute", "second")
# Times that Spark's own cast reads after two changes: a comma becomes a point, and missing seconds are added before an
# offset.
_PLAIN_TIME = (
    r"^\d{4}-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}(?::\d{1,2}(?::\d{1,2}(?:[.,]\d{0,9})?)?"
    r" ?(?:Z|UTC|GMT|(?:UTC|GMT)?[+-](?:\d{1,2}|\d{1,2}:\d{2}|\d{4})|[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+)?)?)?$"
)
_NO_SECONDS = r"^([\d-]+[T ]\d{1,2}:\d{1,2})( ?[A-Z+-].*)$"


def read_value(column: "Column", kind: Kind, type_: pa.DataType, unit: TimeUnit | None = None) -> "Column":
    """Return a column's values as the kind; a value that cannot be read is null.

    A time before the year 1 or after the year 9999 becomes some time before `FIRST_TIME`, or not before `END_OF_TIMES`.

    Args:
        column: a column of the type; if the type is text, the result of `written_text`.
        kind: the contract's kind.
        type_: the column's type in the file.
        unit: the unit of times that are numbers; None if times may not be numbers.
    """
    type_ = value_type(type_)
    if kind in ("id", "text"):
        return column.cast("string")
    if kind == "time":
        return _time(column, type_, unit)
    if kind in ("number", "integer"):
        number = column.try_cast(SPARK_TYPES[kind])
        return F.when(column.rlike(WRITTEN_NUMBER), number) if kind == "number" and is_text(type_) else number
    if not is_text(type_):
        return column.cast(SPARK_TYPES[kind])
    if kind == "vector":
        return _written_vector(column)
    return F.when(column.startswith("["), F.from_json(column, "array<string>")).otherwise(F.split(column, r"[;,|]"))


def with_point(column: "Column") -> "Column":
    """Return numbers that are written with a decimal comma in the form with a decimal point.

    A point becomes a comma, so that a number that was written with a point cannot be read.
    """
    return F.translate(column, ",.", ".,")


def levels(category: "Column", separator: str) -> "Column":
    """Return a category with ` > ` between its levels.

    Args:
        category: texts.
        separator: the text between the levels.
    """
    parts = F.transform(F.split(category, re.escape(separator)), lambda level: F.btrim(level, F.lit(BLANKS)))
    joined = F.array_join(F.filter(parts, lambda level: level != ""), " > ")
    return F.nullif(joined, F.lit(""))


def _written_vector(column: "Column") -> "Column":
    """Return the numbers of a JSON list, or of a text that separates them by blanks, commas or semicolons."""
    inside = F.btrim(F.regexp_replace(column, r"^[\[({]|[\])}]$", ""), F.lit(BLANKS))
    parts = F.split(F.regexp_replace(inside, r"\s*[,;]\s*|\s+", ","), ",")
    is_number = F.forall(parts, lambda part: part.rlike(WRITTEN_NUMBER))
    return F.coalesce(
        F.from_json(column, "array<float>"), F.when(is_number, F.transform(parts, lambda part: part.try_cast("float")))
    )


def written_text(column: "Column", null_words: tuple[str, ...] = ()) -> "Column":
    """Return text composed (NFC) and without the blanks around it; if nothing or a word for null is left, it is null.

    Args:
        column: strings.
        null_words: texts that stand for null.
    """
    # Nearly every value is ASCII without blanks around it. A look at every character would cost more than reading it.
    ends = [column.endswith(blank) for blank in ASCII_BLANKS]
    is_odd = reduce(or_, [column < F.lit("!"), F.length(column) != F.octet_length(column), *ends])
    trimmed = F.btrim(column, F.lit(BLANKS))
    icu = [F.lit("com.ibm.icu.text.Normalizer"), F.lit("compose"), trimmed, F.lit(False)]
    odd = F.when(~trimmed.isin("", *null_words), F.call_function("reflect", *icu))
    return F.when(is_odd, odd).otherwise(F.when(~column.isin("", *null_words), column))


def _time(column: "Column", type_: pa.DataType, unit: TimeUnit | None) -> "Column":
    if is_number(type_) or (is_text(type_) and unit is not None):
        return _counted_time(column, type_, SCALES[unit or "s"])
    if is_text(type_):
        written = F.regexp_replace(F.translate(column, ",", "."), _NO_SECONDS, "$1:00$2")
        plain = F.coalesce(column.try_cast("timestamp"), written.try_cast("timestamp"))
        # Spark reads a bare "12:30" as a time of today, so a date is required.
        return F.coalesce(F.when(column.rlike(_PLAIN_TIME), plain), _odd_time(column))
    if pa.types.is_date(type_):
        return scaled_time(F.unix_date(column).cast("bigint"), DAY)
    return scaled_time(F.unix_micros(column.cast("timestamp")), 1)


def _counted_time(column: "Column", type_: pa.DataType, scale: TimeScale) -> "Column":
    """Return the time that a number stands for. A fraction is read to the microsecond."""
    if not is_text(type_) and not pa.types.is_integer(type_):
        number = F.when(F.abs(column.cast("double")) <= scale.farthest, column.cast("double"))
        return F.timestamp_micros(F.floor(number * (scale.factor / scale.divisor) + 0.5) + scale.start)
    whole = column.try_cast("bigint")
    fraction = F.lit(0).cast("bigint")
    if is_text(type_):
        has_point, java = column.rlike(r"^[+-]?\d+\.\d*$"), WRITTEN_COUNT.replace("(?P<", "(?<")
        digits = F.substring(F.rpad(F.regexp_extract(column, java, 2), 6, "0"), 1, 6).try_cast("bigint")
        micros = F.call_function("div", digits * scale.factor, F.lit(scale.divisor * 1_000_000))
        fraction = F.when(has_point, F.when(column.startswith("-"), -micros).otherwise(micros)).otherwise(fraction)
        whole = F.when(has_point, F.regexp_extract(column, java, 1).try_cast("bigint")).otherwise(whole)
    time = F.call_function("div", whole, F.lit(scale.divisor)) * scale.factor + fraction + scale.start
    return F.when(whole.between(-scale.farthest, scale.farthest), F.timestamp_micros(time))


def scaled_time(counts: "Column", factor: int) -> "Column":
    """Return times that are counted from 1970 in units of `factor` microseconds. Too large counts do not overflow.

    Args:
        counts: bigint, counted from 1970.
        factor: microseconds in one count.
    """
    within = F.greatest(F.least(counts, F.lit(END_OF_TIMES // factor)), F.lit(FIRST_TIME // factor - 1))
    return F.when(counts.isNotNull(), F.timestamp_micros(within * factor))


def bound(value: "Column", use: "Callable[[Column], Column]") -> "Column":
    """Return `use(value)`; the value is computed only once, however often `use` names it.

    Args:
        value: any expression.
        use: takes the value and returns an expression.
    """
    return F.transform(F.array(value), use).getItem(0)


def _odd_time(column: "Column") -> "Column":
    """Return times that Spark's own cast does not read: basic forms, week and ordinal dates, 24:00, leap seconds."""
    for pattern, replacement in BASIC_FORMS:
        column = F.regexp_replace(column, pattern, replacement.replace("\\", "$"))

    def parts(text: "Column") -> "Column":
        groups = {name: F.regexp_extract(text, _JAVA_TIME, n) for name, n in _GROUPS.items()}
        for name in _NUMBERS:
            groups[name] = F.coalesce(groups[name].try_cast("int"), F.lit(-1))
        return F.when(text.rlike(_JAVA_TIME), F.struct(*(part.alias(name) for name, part in groups.items())))

    return bound(bound(column, parts), lambda part: bound(_odd_date(part), lambda date: _odd_clock(part, date)))


def _odd_clock(part: "Column", date: "Column") -> "Column":
    hour, minute, second = (F.greatest(part[name], F.lit(0)) for name in ("hour", "minute", "second"))
    fraction = F.rpad(F.substring(part["fraction"], 1, 6), 6, "0")
    is_leap = second == 60
    is_midnight = (hour == 24) & (minute == 0) & (second == 0) & (fraction == "000000")
    date = F.when(is_midnight, F.date_add(date, 1)).otherwise(date)
    hour = F.when(is_midnight, F.lit(0)).otherwise(hour)
    second = F.when(is_leap, F.lit(59)).otherwise(second)
    clock = F.concat_ws(":", *(number.cast("string") for number in (hour, minute, second)))
    zone = F.when(part["zone"].contains("/"), part["zone"]).otherwise(F.upper(part["zone"]))
    text = F.concat(date.cast("string"), F.lit(" "), clock, F.lit("."), fraction, F.lit(" "), zone)
    # A leap second is read as the second before it, which is the last of the same UTC day, so the day stays the same.
    return bound(
        F.rtrim(text).try_cast("timestamp"),
        lambda time: F.when(~is_leap | (F.pmod(F.unix_seconds(time), F.lit(86_400)) == 86_399), time),
    )


def _odd_date(part: "Column") -> "Column":
    year = part["year"]
    january = F.make_date(year, F.lit(1), F.lit(1))
    ordinal = F.date_add(january, part["ordinal"] - 1)
    # The 4th of January is in the first ISO week, and a week's Thursday is in the week's year.
    monday = F.date_add(F.trunc(F.date_add(january, 3), "week"), 7 * (part["week"] - 1))
    exists = (part["week"] >= 1) & (F.year(F.date_add(monday, 3)) == year)
    return (
        F.when(part["week"] >= 0, F.when(exists, F.date_add(monday, part["weekday"] - 1)))
        .when(part["ordinal"] >= 0, F.when(F.year(ordinal) == year, ordinal))
        .otherwise(F.concat_ws("-", F.lpad(year.cast("string"), 4, "0"), part["month"], part["day"]).try_cast("date"))
    )
