"""Normalises search queries, so that equal queries compare equal.

Retrieval has its own implementation; one golden file tests both.
"""

import unicodedata


def normalise_query(query: str | None) -> str | None:
    """Return a query in NFKC, case-folded, with single blanks between words; None if nothing is left.

    NFKC is applied again after folding, which can undo the composition: İ folds to i and a dot.
    """
    if query is None:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
