"""Versions that answer test questions as their servers would."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from jobs.config import Config
from jobs.pipeline.evaluate import served_ranker
from jobs.workspace.manifest import Manifest
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace
from retrieval.config import RetrievalConfig

if TYPE_CHECKING:
    from retrieval.evaluation.pairs import Pairs
    from retrieval.evaluation.sessions import Sessions
    from retrieval.index_folder import Index
    from retrieval.queries import Ranker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareOptions:
    """Options of `compare_versions`.

    Args:
        protocol: `item`, `session` or `basket`.
        include_current: the current item may be the target.
        allow_overlap: accept events that are not after a version's as-of time; the result says so.
        frontier: also measure both versions at other weights of popularity.
    """

    protocol: str = "item"
    include_current: bool = False
    allow_overlap: bool = False
    frontier: bool = False


@dataclass(frozen=True)
class Contender:
    """A version that answers test questions as its server would.

    Args:
        version: the version; its index is readable.
        index: its index.
        ranker: ranks the rows of the index.
        settings: the settings of retrieval with which the version was built.
    """

    version: Version
    index: "Index"
    ranker: "Ranker"
    settings: RetrievalConfig

    @classmethod
    def open(cls, workspace: Workspace, name: str, config: Config) -> "Contender":
        """Open a version of a workspace by its name, after comparing the files of its index with their checksums."""
        return cls.of(workspace.open(name, verify=True, parts=("index",)), config)

    @classmethod
    def of(cls, version: Version, config: Config) -> "Contender":
        """Read a version's index; its settings come from its manifest or, if that has no valid ones, from `config`."""
        from retrieval.index_folder import read_index

        index, settings = read_index(version.path / "index"), _settings_of(version.manifest, config)
        return cls(version, index, served_ranker(index, settings), settings)

    def pairs(self, sessions: "Sessions", options: CompareOptions, *, ads: bool = False) -> "Pairs":
        """Return the questions of sessions and their targets, as rows of this version's catalogue.

        Every version has its pairs in the same order, because the order depends on the sessions alone.
        """
        from retrieval.evaluation.pairs import pairs_of

        return pairs_of(
            options.protocol,
            sessions,
            self.index.catalogue.item_ids,
            self.index.catalogue.events,
            ads=self.index.ads if ads else None,
            include_current=options.include_current,
        )


def _settings_of(manifest: Manifest, config: Config) -> RetrievalConfig:
    try:
        return RetrievalConfig.model_validate(manifest.config.get("retrieval", {}))
    except ValidationError:  # another release wrote it
        log.warning("the [retrieval] settings of %s cannot be read; those of --config are used", manifest.version)
        return config.retrieval
