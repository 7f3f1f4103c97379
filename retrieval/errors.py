"""What retrieval refuses, from a bad artefact to a bad request: one hierarchy, so that a caller can catch it whole."""

from __future__ import annotations


class RetrievalError(ValueError):
    """Anything that retrieval refuses; the message says what was got, what was expected and what to do."""


class CatalogueError(RetrievalError):
    """Vectors, ids, edges or ads that do not fit together."""


class IndexFolderError(RetrievalError):
    """An index folder that is incomplete, damaged or of another format version."""


class EvaluationError(RetrievalError):
    """Sessions or events that a protocol cannot be measured on."""


class AddressError(RetrievalError):
    """A host or port that a server cannot listen on."""


class ChangeLogError(RetrievalError):
    """A log of live changes that cannot be read or written; the message names the file."""


class QueriesError(RetrievalError):
    """A table of queries that does not fit its contract; the message names its file, column and, if one, row."""


class RequestError(RetrievalError):
    """A request that cannot be answered; `field` is the request's key that is at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
