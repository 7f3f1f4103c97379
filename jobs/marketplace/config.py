"""The size and the habits of the built-in marketplace."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class MarketplaceConfig(BaseModel):
    """Settings of the generator. The same settings give the same files, byte for byte.

    They were fixed before any model was trained on what they generate, by the looks of the shop alone
    (length of the tail, sessions, prices), and are never tuned to move a ranking: a marketplace that was
    adjusted until one method wins says nothing about the method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 20260302
    start: date = Field(default=date(2026, 3, 2), description="first day of the log (UTC)")
    days: int = Field(default=14, ge=2, description="days in events.parquet; the day after is test_events.parquet")

    items: int = Field(default=24_000, ge=1_000)
    shoppers: int = Field(default=14_000, ge=10)
    sessions_per_day: int = Field(default=3_600, ge=10)
    mean_opens: float = Field(default=4.2, gt=1, description="visits to an item, a search or a list in a session")

    source_logged_share: float = Field(default=0.55, ge=0, le=1, description="sessions that log source_item_id")
    signed_in_share: float = Field(default=0.6, ge=0, le=1, description="shoppers whose sessions carry a user_id")
    wandering_share: float = Field(default=0.1, ge=0, le=1, description="next clicks that mean nothing")
    search_share: float = Field(default=0.16, ge=0, le=1, description="next clicks that come from a search")

    bot_sessions: int = Field(default=14, ge=0)
    bot_items: int = Field(default=500, ge=1, description="items that a bot opens, on average")

    cold_share: float = Field(default=0.04, ge=0, le=1, description="catalogue items that nobody ever opens")
    last_day_share: float = Field(default=0.03, ge=0, le=1, description="items that appear on the last training day")
    test_day_share: float = Field(default=0.02, ge=0, le=1, description="items that appear on the test day")
    delisted_share: float = Field(default=0.003, ge=0, le=1, description="items sold once, gone from the catalogue")

    advertised_share: float = Field(default=0.35, ge=0, le=1, description="catalogue items with an ad")
    campaigns: int = Field(default=160, ge=6)

    duplicate_share: float = Field(default=0.005, ge=0, le=1, description="rows that the log holds twice")
    dirty_rows: int = Field(default=160, ge=0, description="rows that break the table's contract")

    @classmethod
    def small(cls) -> "MarketplaceConfig":
        """A marketplace for tests: the same habits, some 15,000 events on 1,500 items."""
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
