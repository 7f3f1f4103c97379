"""Normalises search queries exactly as the graph build does; one golden file pins both."""

from __future__ import annotations

import unicodedata


def normalise_query(query: str) -> str | None:
    """Return a query in NFKC, case-folded, with single blanks for white space, trimmed; None if nothing is left.

    Case folding can undo the composition (İ becomes i and a dot), so NFKC is applied again.

    >>> normalise_query("  Ｒed\\tSHOES ")
    'red shoes'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
