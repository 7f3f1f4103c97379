"""Every setting of the graph build, with its default. Light: imports neither Spark nor Arrow."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EventType = Literal["impression", "view", "click", "add_to_cart", "purchase", "search"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableInput(_Section):
    """How one input table is read. `columns` maps the contract's column names to the log's own."""

    columns: dict[str, str] = Field(default_factory=dict)


class EventsInput(TableInput):
    """Events: `timestamp_unit` is needed only where times are integers since 1970; `types` maps the log's own event
    types to the contract's, in any case ("detail" = "view")."""

    timestamp_unit: Literal["s", "ms", "us"] | None = None
    types: dict[str, EventType] = Field(default_factory=dict)
    exclude_ad_events: bool = False


class ItemsInput(TableInput):
    """Items: `features` names further columns of the table that the model may use."""

    features: tuple[str, ...] = ()


class InputConfig(_Section):
    """The three tables that come in, and the share of bad rows past which the job stops."""

    events: EventsInput = EventsInput()
    items: ItemsInput = ItemsInput()
    ads: TableInput = TableInput()
    max_bad_share: float = Field(default=0.5, ge=0, le=1)


class StrongClickConfig(_Section):
    """Edges from "left A's page for B". `quota`: edges kept per item and direction."""

    max_steps: int = Field(default=5, ge=1, le=20)
    backward: float = Field(default=0.5, ge=0, le=1)
    max_gap_minutes: float = Field(default=30.0, gt=0)
    max_session_items: int = Field(default=200, ge=2)
    half_life_days: float = Field(default=30.0, gt=0)
    quota: int = Field(default=100, ge=1)


class SwingConfig(_Section):
    """Swing on the user-item graph; w_u = 1 / (user_offset + |I_u|) ** user_exponent.

    The two caps cut the user-item graph before it is scored, by a hash seeded with `seed`. A user with more than
    `max_user_items` counts day by day, and of a day's items so many are kept; `max_item_users` counts users' days.
    """

    alpha: float = Field(default=1.0, ge=0)
    user_offset: float = Field(default=0.0, ge=0)
    user_exponent: float = Field(default=0.5, ge=0, le=2)
    min_user_items: int = Field(default=2, ge=2)
    max_user_items: int = Field(default=100, ge=2)
    max_item_users: int = Field(default=500, ge=2, le=5000)
    view_weight: float = Field(default=1.0, gt=0, le=10)
    click_weight: float = Field(default=1.0, gt=0, le=10)
    add_to_cart_weight: float = Field(default=2.0, gt=0, le=10)
    purchase_weight: float = Field(default=3.0, gt=0, le=10)
    seed: int = 17
    top_k: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _caps_leave_room(self) -> "SwingConfig":
        if self.max_user_items < self.min_user_items:
            raise ValueError(
                f"swing.max_user_items is {self.max_user_items}, below swing.min_user_items "
                f"{self.min_user_items}: no user would be left"
            )
        return self


class CoSearchConfig(_Section):
    """Edges between items opened after the same search by the same user on the same day."""

    max_items_per_search: int = Field(default=30, ge=2)
    half_life_days: float = Field(default=30.0, gt=0)
    quota: int = Field(default=30, ge=1)
    seed: int = 17


class CoPurchaseConfig(_Section):
    """Training pairs from sessions without any view or click: each item with a few others."""

    partners: int = Field(default=3, ge=1, le=20)
    max_basket_items: int = Field(default=200, ge=2)
    seed: int = 17


class TailConfig(_Section):
    """An item is tail with at most `max_events` events in the window."""

    max_events: int = Field(default=5, ge=0)


class ReportConfig(_Section):
    """Above these numbers of edges the report leaves a figure out and says so."""

    max_networkx_edges: int = Field(default=200_000, ge=0)
    max_component_edges: int = Field(default=5_000_000, ge=0)


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
    popularity_half_life_days: float = Field(default=30.0, gt=0)
    window_days: int | None = Field(
        default=None, ge=1, description="days of stored logs that a build reads; left out, all"
    )
