"""What makes two search queries the same one. Retrieval has its own twin; one golden file pins both."""

import unicodedata


def normalise_query(query: str | None) -> str | None:
    """NFKC, case-folded, white space collapsed to single blanks and trimmed; None when nothing is left.

    Folding can undo the composition (İ folds to i and a dot), hence the second NFKC.
    """
    if query is None:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split()) or None
