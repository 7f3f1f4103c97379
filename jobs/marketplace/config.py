"""The size of the built-in marketplace and the habits of its shoppers."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class MarketplaceConfig(BaseModel):
    """Settings of the generator. The same settings give the same files, byte for byte.

    The defaults were chosen before any model was trained on the generated data, and only to make the shop look real
    (length of the tail, sessions, prices). They are never tuned to change a ranking of methods: if a marketplace is
    adjusted until one method wins, it proves nothing about that method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=20260302, description="seed of all random numbers")
    start: date = Field(default=date(2026, 3, 2), description="first day of the log (UTC)")
    days: int = Field(default=14, ge=2, description="days in events.parquet; the day after is test_events.parquet")

    items: int = Field(default=24_000, ge=1_000, description="items, those that were delisted included")
    shoppers: int = Field(default=14_000, ge=10, description="people who may visit the shop")
    sessions_per_day: int = Field(default=3_600, ge=10, description="sessions a day, on average over the week")
    mean_opens: float = Field(
        default=4.2, gt=1, description="steps in a session, on average: opening an item, or searching and opening some"
    )

    source_logged_share: float = Field(
        default=0.55, ge=0, le=1, description="share of the sessions whose clicks carry source_item_id"
    )
    signed_in_share: float = Field(
        default=0.6, ge=0, le=1, description="share of the shoppers whose events carry a user_id"
    )
    wandering_share: float = Field(
        default=0.1, ge=0, le=1, description="share of the next steps that open an item unrelated to the open one"
    )
    search_share: float = Field(default=0.16, ge=0, le=1, description="share of the next steps that are searches")

    bot_sessions: int = Field(default=14, ge=0, description="sessions of price-comparing bots in the whole log")
    bot_items: int = Field(default=500, ge=1, description="items that a bot opens in its session, on average")

    cold_share: float = Field(default=0.04, ge=0, le=1, description="share of the items that nobody ever opens")
    last_day_share: float = Field(
        default=0.03, ge=0, le=1, description="share of the items that first appear on the last training day"
    )
    test_day_share: float = Field(
        default=0.02, ge=0, le=1, description="share of the items that first appear on the test day"
    )
    delisted_share: float = Field(
        default=0.003, ge=0, le=1, description="share of the items that were sold for a while and left the item table"
    )

    advertised_share: float = Field(default=0.35, ge=0, le=1, description="share of the listed items that have an ad")
    campaigns: int = Field(default=160, ge=6, description="campaigns that the ads belong to")

    duplicate_share: float = Field(default=0.005, ge=0, le=1, description="share of the rows that the log has twice")
    dirty_rows: int = Field(default=160, ge=0, description="rows that break the contract of the events table")

    @classmethod
    def small(cls) -> "MarketplaceConfig":
        """A marketplace for tests: the same habits, with about 15,000 events on 1,500 items."""
        return cls(
            days=5,
            items=1_500,
            shoppers=600,
            sessions_per_day=430,
            bot_sessions=3,
            bot_items=250,
            campaigns=24,
            dirty_rows=24,
        )
