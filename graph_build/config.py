"""Every setting of the graph build, with its default. Importing it loads neither Spark nor Arrow."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from graph_build.day_zone import UTC, rules

EventType = Literal["impression", "view", "click", "add_to_cart", "purchase", "search"]


# What pandas, R, Spark, Hive, MySQL, Snowflake and spreadsheets write for null.
NULL_WORDS = (
    "NULL", "null", "Null", "\\N", "None", "NaN", "nan", "-NaN", "-nan", "NaT", "NA", "N/A", "n/a", "<NA>", "#N/A",
    "#N/A N/A", "#NA", "(null)",
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableInput(_Section):
    """How one input table is read."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="LightSAGE's name of a column = your name; columns that are not listed keep their names",
    )


class EventsInput(TableInput):
    """How the events are read."""

    timestamp_unit: Literal["s", "ms", "us"] | None = Field(
        default=None,
        description="unit of times that are integers counted from 1970: seconds, milliseconds or microseconds",
    )
    types: dict[str, EventType] = Field(
        default_factory=dict,
        description='your name of an event type, upper or lower case = LightSAGE\'s name ("detail" = "view")',
    )
    exclude_ad_events: bool = Field(
        default=False, description="leave events with an ad_id out, so that ads do not feed on their own clicks"
    )


class ItemsInput(TableInput):
    """How the items are read."""

    features: tuple[str, ...] = Field(
        default=(), description="further columns of the items table that the model may use"
    )


class InputConfig(_Section):
    """The three tables that come in."""

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
    """Swing on the user-item graph; user u weighs 1 / (user_offset + |I_u|) ** user_exponent.

    Before the graph is scored, the two caps thin it out by a hash seeded with `seed`.
    """

    alpha: float = Field(
        default=1.0, ge=0, description="smoothing: two users score 1 / (alpha + the items that they share)"
    )
    user_offset: float = Field(default=0.0, ge=0, description="added to a user's number of items in the user's weight")
    user_exponent: float = Field(default=0.5, ge=0, le=2, description="how much users of many items are weighed down")
    min_user_items: int = Field(default=2, ge=2, description="users with fewer items are left out")
    max_user_items: int = Field(
        default=100, ge=2, description="a user with more items counts day by day, and at most this many items of a day"
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
