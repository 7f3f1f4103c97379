"""Normalises search queries exactly as the graph build does; one golden file tests both implementations."""

from __future__ import annotations

import unicodedata


def normalise_query(query: str) -> str | None:
    """Return a query in NFKC, case-folded, trimmed, and with white space as single blanks; None if nothing is left.

    Case folding can decompose a character (İ becomes i and a combining dot), so NFKC is applied again.

    >>> normalise_query("  Ｒed\\tSHOES ")
    'red shoes'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
