"""The normaliser of search queries, the twin of the graph build's; one golden file pins both."""

from __future__ import annotations

import unicodedata


def normalise_query(query: str) -> str | None:
    """NFKC, case-folded, white space collapsed to single blanks and trimmed; None when nothing is left.

    Folding can undo the composition (İ folds to i and a dot), hence the second NFKC.

    >>> normalise_query("  Ｒed\\tSHOES ")
    'red shoes'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
