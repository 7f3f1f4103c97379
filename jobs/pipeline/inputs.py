"""The inputs of a build: the tables, or a graph that was built elsewhere."""

from dataclasses import dataclass

from jobs.config import Config
from jobs.errors import ConfigError


@dataclass(frozen=True)
class RunInputs:
    """Paths or URIs of the inputs of one build.

    Args:
        events: files or folders of events.
        items: the items table, if there is one.
        ads: the ads table; without it, every item counts as advertised.
        graph: a finished item graph, which is used instead of all tables.
        days: a store of days, which is used instead of `events`.
    """

    events: tuple[str, ...] = ()
    items: str | None = None
    ads: str | None = None
    graph: str | None = None
    days: str | None = None

    def tables(self) -> dict[str, list[str]]:
        """Return table → paths; a table that is not given has an empty list."""
        single = {table: [path] if path else [] for table, path in (("items", self.items), ("ads", self.ads))}
        return {"events": list(self.events), **single}

    def by_role(self) -> dict[str, list[str]]:
        """Return role → paths of the inputs that are set."""
        paths = {"events": list(self.events)} if self.events else {}
        if self.days is not None:
            paths["days"] = [f"{self.days}/days.json"]  # this file names a new folder for each day that changes
        single = {"items": self.items, "ads": self.ads, "graph": self.graph}
        return paths | {role: [path] for role, path in single.items() if path is not None}


def check_features(inputs: RunInputs, config: Config) -> None:
    """Check, before the graph is built, that it will keep every column that the model is configured to read.

    Args:
        inputs: the inputs of the build.
        config: the configuration; `[model.features] columns` names the columns that the model reads, `[input.items]
            features` those that the graph keeps.

    Raises:
        ConfigError: a column will be missing.
    """
    from graph_build.ingest.contract import OPTIONAL

    available = {*OPTIONAL["items"], *config.graph.input.items.features}
    for name in config.model.features.columns:
        if inputs.items is None and inputs.graph is None:
            raise ConfigError(f"model.features.columns names {name!r}, but there is no items table; give --items")
        if name not in available:
            raise ConfigError(
                f"model.features.columns names {name!r}, which the graph build does not keep; "
                f"add it to [input.items] features (now: {', '.join(config.graph.input.items.features) or 'none'})"
            )
