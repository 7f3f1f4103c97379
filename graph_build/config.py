"""Every setting of the graph build, with its default. Importing this module loads neither Spark nor Arrow."""

from collections.abc import Iterable, Iterator
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from graph_build.day_zone import UTC, rules

EventType = Literal["impression", "view", "click", "add_to_cart", "purchase", "search"]
Ignored = Literal["ignore"]
FileFormat = Literal["csv", "json", "weblog", "parquet", "delta", "iceberg"]
TimeUnit = Literal["s", "ms", "us", "ns", "day", "order"]
CSV_KEYS = ("separator", "quote", "header", "names", "decimal")

# What pandas, R, Spark, Hive, MySQL, Snowflake and spreadsheets write for null.
NULL_WORDS = (
    "NULL", "null", "Null", "\\N", "None", "NaN", "nan", "-NaN", "-nan", "NaT", "NA", "N/A", "n/a", "<NA>", "#N/A",
    "#N/A N/A", "#NA", "(null)",
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _flat(names: Iterable[str | tuple[str, ...]]) -> set[str]:
    return {part for name in names for part in ((name,) if isinstance(name, str) else name)}


class TableInput(_Section):
    """How one input table is read. The keys from `separator` to `decimal` are for CSV."""

    columns: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="LightSAGE's name of a column = your name; columns that are not listed keep their names. A name "
        'with points ("items.item_id") leads into records. A list of names joins their texts with a blank. "#" is the '
        'position in the exploded list, from 0. "#row" gives each row a text that no other row has. "" is no column',
    )
    constants: dict[str, str | int | float] = Field(
        default_factory=dict,
        description="LightSAGE's name of a column = its value in every row that has none of its own "
        '(event_type = "view")',
    )
    format: FileFormat | None = Field(
        default=None,
        description="csv, json (one object per line), parquet, delta or iceberg; if not set, the files' names say it",
    )
    explode: str | None = Field(
        default=None, description="a column of lists, or a path with points to one; each element becomes a row"
    )
    separator: str | None = Field(
        default=None,
        min_length=1,
        description='what stands between two values, such as ";" or "::"; if not set, a comma; in .tsv and .tab, a tab',
    )
    quote: str = Field(default='"', max_length=1, description='the mark around values that hold separators; "" = none')
    header: bool = Field(default=True, description="whether the first line of a file names the columns")
    names: tuple[str, ...] = Field(
        default=(), description="the names of the columns by position, for files without a header or with a wrong one"
    )
    decimal: Literal[".", ","] = Field(default=".", description="the decimal mark of numbers")

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        """Yield messages about keys that contradict each other or have unusable values; each says what to change."""
        for_csv = [name for name in CSV_KEYS if getattr(self, name) != type(self).model_fields[name].default]
        if self.format not in (None, "csv") and for_csv:
            yield f"{for_csv[0]} is for CSV, but format is {self.format!r}; leave one of the two out"
        if not self.header and not self.names:
            yield 'header = false needs the names of the columns: names = ["session_id", "timestamp", …]'
        if repeated := [name for name in self.names if name and self.names.count(name) > 1]:
            yield f"names holds {repeated[0]!r} twice; rename one"
        if self.separator is not None and {*"\r\n"} & {*self.separator}:
            yield "separator holds a line end, which ends a row; set what stands between two values of a row"
        if self.quote and (self.quote in (self.separator or ",") or self.quote in "\r\n "):
            yield f'quote {self.quote!r} is also a separator; set quote = "" if values have no quotes'
        if not self.quote and self.decimal == self.separator:
            yield f"separator and decimal are both {self.decimal!r}, without quotes to tell them apart; correct one"
        yield from (f"columns.{name} is an empty list" for name, own in self.columns.items() if own == ())
        if "#" in _flat(self.columns.values()) and self.explode is None:
            yield 'columns holds "#", the position in an exploded list; set explode to the column of lists'


class EventsInput(TableInput):
    """How the events are read."""

    timestamp_unit: TimeUnit | None = Field(
        default=None,
        description="unit of times that are numbers: s, ms, us, ns or day, counted from 1970, or order: number n "
        "is day n after 2000-01-01, for logs that know only the order of events",
    )
    types: dict[str, EventType | Ignored] = Field(
        default_factory=dict,
        description='your name of an event type, upper or lower case = LightSAGE\'s name ("detail" = "view"), or '
        '"ignore" for events that mean nothing here; "*" stands for all types without a line of their own',
    )
    exclude_ad_events: bool = Field(
        default=False, description="leave events with an ad_id out, so that ads do not feed on their own clicks"
    )
    session_gap: float = Field(
        default=30.0,
        gt=0,
        le=1440,
        description="where events have no session_id: a longer pause, in minutes, ends a user's session",
    )

    @property
    def longest_pause(self) -> int:
        """The session gap in microseconds."""
        return round(self.session_gap * 60_000_000)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.timestamp_unit is not None and not isinstance(self.columns.get("timestamp", ""), str):
            yield "timestamp joins several columns, which are text, but timestamp_unit is set; leave one of the two out"


class ItemsInput(TableInput):
    """How the items are read."""

    features: tuple[str, ...] = Field(
        default=(), description="further columns of the items table that the model may use"
    )
    category_separator: str | None = Field(
        default=None,
        min_length=1,
        description='what separates the levels of a category in your table, such as "|" or "/"; if not set, " > "',
    )


class InputConfig(_Section):
    """How the three input tables are read."""

    events: EventsInput = EventsInput()
    items: ItemsInput = ItemsInput()
    ads: TableInput = TableInput()
    max_bad_share: float = Field(
        default=0.5, ge=0, le=1, description="largest share of a table's rows that may be bad; with more the job stops"
    )
    day_zone: str = Field(
        default=UTC, description="time zone in which a day of the log begins and ends, for example Europe/Berlin"
    )
    encoding: str = Field(
        default="utf-8",
        description='encoding of CSV files, such as "latin-1", "cp1252" or "utf-16"; parquet needs none',
    )
    null_words: tuple[str, ...] = Field(
        default=NULL_WORDS,
        description="texts that stand for null in CSV files; NA is Namibia where a country is expected; [] = none",
    )

    @field_validator("day_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        rules(zone)
        return zone

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        try:
            is_text = "\n".encode(name).decode(name) == "\n"
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise ValueError(f"input.encoding is {name!r}, which is no text encoding; use e.g. utf-8 or latin-1")
        return name


class StrongClickConfig(_Section):
    """Edges from clicks that lead from one item page to another."""

    max_steps: int = Field(
        default=5,
        ge=1,
        le=20,
        description="an item opened at most this many items later is linked; 1 = only the next item",
    )
    backward: float = Field(
        default=0.5, ge=0, le=1, description="weight of the link back, as a share of the link's own weight"
    )
    max_gap_minutes: float = Field(default=30.0, gt=0, description="longest time between two linked items, in minutes")
    max_session_items: int = Field(default=200, ge=2, description="items of a session that count; later ones do not")
    half_life_days: float = Field(default=30.0, gt=0, description="days after which a click counts half")
    quota: int = Field(default=100, ge=1, description="edges kept per item and direction")


class SwingConfig(_Section):
    """Swing on the user-item graph; a user of n items weighs 1 / (user_offset + n) ** user_exponent.

    Before the graph is scored, the caps `max_user_items` and `max_item_users` remove some of its edges. A hash seeded
    with `seed` chooses which.
    """

    alpha: float = Field(
        default=1.0, ge=0, description="smoothing: two users score 1 / (alpha + the items that they share)"
    )
    user_offset: float = Field(default=0.0, ge=0, description="added to a user's number of items in the user's weight")
    user_exponent: float = Field(default=0.5, ge=0, le=2, description="how much users of many items are weighed down")
    min_user_items: int = Field(default=2, ge=2, description="users with fewer items are left out")
    max_user_items: int = Field(
        default=100, ge=2, description="a user with more items counts once a day, with at most this many items"
    )
    max_item_users: int = Field(
        default=500, ge=2, le=5000, description="users kept per item; a user counts once for each day with the item"
    )
    view_weight: float = Field(default=1.0, gt=0, le=10, description="weight of an item that a user viewed")
    click_weight: float = Field(default=1.0, gt=0, le=10, description="weight of an item that a user clicked")
    add_to_cart_weight: float = Field(
        default=2.0, gt=0, le=10, description="weight of an item that a user put into the cart"
    )
    purchase_weight: float = Field(default=3.0, gt=0, le=10, description="weight of an item that a user bought")
    seed: int = Field(default=17, description="seed of the hash by which the caps choose")
    top_k: int = Field(default=30, ge=1, description="edges kept per item")

    @model_validator(mode="after")
    def _caps_leave_users(self) -> "SwingConfig":
        if self.max_user_items < self.min_user_items:
            raise ValueError(
                f"swing.max_user_items is {self.max_user_items}, below swing.min_user_items "
                f"{self.min_user_items}: no user would be left"
            )
        return self


class CoSearchConfig(_Section):
    """Edges between items opened after the same search by the same user on the same day."""

    max_items_per_search: int = Field(default=30, ge=2, description="items of one search that count, chosen by a hash")
    half_life_days: float = Field(default=30.0, gt=0, description="days after which a search counts half")
    quota: int = Field(default=30, ge=1, description="edges kept per item")
    seed: int = Field(default=17, description="seed of the hash that chooses the items of a search")


class CoPurchaseConfig(_Section):
    """Training pairs from sessions without any view or click: an item with a few others of its basket."""

    partners: int = Field(default=3, ge=1, le=20, description="items of the basket with which each item is paired")
    max_basket_items: int = Field(default=200, ge=2, description="items of a basket that count; later ones do not")
    seed: int = Field(default=17, description="seed of the hash that chooses the partners")


class TailConfig(_Section):
    """Which items are rare."""

    max_events: int = Field(default=5, ge=0, description="an item with at most this many events is a tail item")


class ReportConfig(_Section):
    """The sizes above which the report leaves out figures that would take too long."""

    max_networkx_edges: int = Field(
        default=200_000, ge=0, description="pairs of items up to which clustering and core numbers are computed"
    )
    max_component_edges: int = Field(
        default=5_000_000,
        ge=0,
        description="edges up to which the graph is measured on the driver, with its components",
    )


class GraphConfig(_Section):
    """The graph build."""

    input: InputConfig = InputConfig()
    strong_click: StrongClickConfig = StrongClickConfig()
    swing: SwingConfig = SwingConfig()
    co_search: CoSearchConfig = CoSearchConfig()
    co_purchase: CoPurchaseConfig = CoPurchaseConfig()
    tail: TailConfig = TailConfig()
    report: ReportConfig = ReportConfig()
    counters: bool = Field(default=False, description="count what the pre-ranker needs")
    popularity_half_life_days: float = Field(
        default=30.0, gt=0, description="days after which an event counts half in an item's popularity"
    )
    window_days: int | None = Field(
        default=None, ge=1, description="number of last days of the log that a build reads; if not set: all days"
    )
