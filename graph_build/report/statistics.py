"""What the report shows of a finished graph: plain values, without Spark, that `measure` computes and `html` draws."""

from dataclasses import dataclass, field

# (item_id, number of neighbours)
Hub = tuple[str, int]
# (degree, number of items with at least that degree)
DegreePoint = tuple[int, int]


@dataclass(frozen=True)
class DensificationStep:
    """The graph after one more edge type was added. Shares are of all items.

    Args:
        edge_type: the type that was added.
        pairs: unordered pairs of neighbours.
        density: edges, as a share of all ordered pairs of items.
        reciprocity: share of the edges whose reverse is an edge too.
        reachable: mean share of the items that can be reached from one item along edges, over a seeded sample.
        components: number of connected components; an isolated item is a component of its own.
        largest_share: share of the items in the largest component.
        isolated_share: share of the items without any edge.
        clustering: mean clustering coefficient over a seeded sample; None in a graph too large for it.
        deepest_core: the largest k for which the graph has a k-core; None in a graph too large for it.
    """

    edge_type: str
    pairs: int
    density: float
    reciprocity: float
    reachable: float
    components: int
    largest_share: float
    isolated_share: float
    clustering: float | None = None
    deepest_core: int | None = None


@dataclass(frozen=True)
class CategoryMixing:
    """How many pairs of neighbours join every two categories.

    Args:
        categories: names of the largest top-level categories, largest first, then "others" if there are more.
        counts: `counts[i][j]` is the number of pairs between categories i and j; if i = j, each pair counts twice.
        pairs: number of pairs that were counted; in a large graph these are a sample.
        within: share of the pairs that stay inside one category.
        expected: what `within` would be if pairs joined their ends at random.
    """

    categories: list[str]
    counts: list[list[int]]
    pairs: int
    within: float
    expected: float


@dataclass(frozen=True)
class GraphStatistics:
    """What a graph looks like. An item's degree is its number of distinct neighbours in either direction.

    Args:
        isolated: number of items without any edge.
        mean_degree: mean degree over all items, all edge types taken together; None for a graph too large for it.
        degrees: edge type → points (degree, items), where the degree counts only edges of that type.
        hubs: edge type → the items with the most neighbours by edges of that type, most neighbours first.
        steps: the graph after each added edge type; empty for a graph too large for it.
        notes: which statistics were left out, and why.
        mixing: None without categories.
        titles: item_id → title of the items that the report names, where they have one.
    """

    isolated: int
    mean_degree: float | None
    degrees: dict[str, list[DegreePoint]]
    hubs: dict[str, list[Hub]]
    steps: list[DensificationStep]
    notes: list[str]
    mixing: CategoryMixing | None = None
    titles: dict[str, str] = field(default_factory=dict)
