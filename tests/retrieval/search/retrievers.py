"""Retrievers of the small shop, one for each kind of index."""

from types import SimpleNamespace

import numpy as np

from retrieval.ann.tuning import build
from retrieval.catalogue.ads import Ads
from retrieval.catalogue.edges import Edges
from retrieval.catalogue.items import Catalogue
from retrieval.config import RetrievalConfig
from retrieval.search.retriever import Retriever
from retrieval.times import microseconds

N = 60
# The thresholds are so small that 60 items are searched as millions are. Every list is probed, and
# every row is used in training.
CONFIGS = {
    "none": RetrievalConfig(),
    "flat": RetrievalConfig(exact_below=0),
    "ivf_sq8": RetrievalConfig(exact_below=0, target_recall=1.0, train_rows_per_list=2, index_kinds=("ivf_sq8",)),
    "ivf_pq4": RetrievalConfig(exact_below=0, target_recall=1.0, train_rows_per_list=2, index_kinds=("ivf_pq4",)),
    "prefix": RetrievalConfig(exact_below=0, index_kinds=("flat",), index_prefix=4),
    "funnel": RetrievalConfig(exact_below=0, index_kinds=("flat",), index_prefix=2, funnel=True),
}


def make_retriever(
    world: SimpleNamespace,
    kind: str,
    catalogue: Catalogue,
    edges: Edges,
    rows: list | None,
    indexed: np.ndarray | None = None,
) -> Retriever:
    """Return a retriever over rows of ads (None: no ads table) with one kind of index, which probes all lists."""
    config = CONFIGS[kind]
    ads = None if rows is None else Ads.from_table(world.ads_table(rows), catalogue.row_of)
    if indexed is None:
        indexed = np.arange(N) if ads is None else ads.items_ending_after(microseconds(world.AS_OF))
    built = None
    if kind == "flat":
        built, _ = build(catalogue.item, catalogue.query, indexed, RetrievalConfig(), bias=catalogue.bias)
    elif kind != "none" and len(indexed) > 16:
        built, _ = build(catalogue.item, catalogue.query, indexed, config, bias=catalogue.bias)
        if built.kind != "flat":
            built.parameters["nprobe"] = built.parameters["nlist"]
    return Retriever(catalogue, edges, ads, built, as_of=world.AS_OF, config=config)
