"""Normalises search queries, so that equal queries compare equal. Retrieval has a twin; one golden file pins both."""

import unicodedata


def normalise_query(query: str | None) -> str | None:
    """Return a query in NFKC, case-folded, with single blanks between words; None when nothing is left.

    Folding can undo the composition (İ folds to i and a dot), so NFKC is applied twice.
    """
    if query is None:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
