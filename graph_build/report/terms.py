"""What the terms in the reports mean, in the words of docs/glossary.md (a test compares them)."""

# Labels of the edge types. Their colours in page.css have the names of the types.
EDGE_LABELS = {"strong_click": "strong click", "swing": "Swing", "co_search": "co-search"}

GRAPH_TERMS = {
    "session": "What one session_id does on one day. Without ids: what one user_id does on one day without a pause "
    "longer than session_gap (30 minutes).",
    "tail": "Items with few events in the training window. In the graph: at most tail.max_events (default 5). In "
    "quality tables: targets with one to five training events.",
    "hold-out": "The last sessions of the training log, one tenth of the events. They decide when training stops and "
    "which weights the score's terms get. The final model learns from them too.",
    "training pair": "Two items that one shopper opened one after the other, or bought together. The model learns from "
    "them.",
    "strong click": "A shopper left item A's page for item B: the log says so (source_item_id), or B was opened soon "
    "after A with no search in between.",
    "Swing": "Two items are similar if pairs of users who share little else both clicked them (arXiv 2010.05525).",
    "co-search": "Two items were opened after the same search by the same user on the same day.",
    "quota": "How many edges of one type an item keeps.",
    "cap": "A limit that keeps bot-like sessions, huge baskets and very busy users from dominating.",
    "quarantine": "Where refused rows are kept, each with its reason.",
    "degree": "How many neighbours an item has.",
    "isolated": "Items without any edge.",
    "hub": "An item with very many neighbours.",
    "density": "Edges, as a share of all ordered pairs of items.",
    "both ways": "The share of edges whose reverse is an edge too (reciprocity).",
    "reachable": "The share of all items that one item leads to along edges, on average.",
    "component": "A set of items that are connected by edges in any direction. An isolated item is one of its own.",
    "clustering": "The chance that two neighbours of an item are neighbours of each other.",
    "core": "A k-core is a part of the graph in which every item has at least k neighbours within the part.",
}
