"""The errors of retrieval, from a damaged artefact to a wrong request, under one base class."""

from __future__ import annotations


class RetrievalError(ValueError):
    """Base class; the message says what was found, what was expected and what to do."""


class CatalogueError(RetrievalError):
    """Vectors, ids, edges or ads do not fit together."""


class IndexFolderError(RetrievalError):
    """An index folder is incomplete, damaged or of another format version."""


class EvaluationError(RetrievalError):
    """A protocol cannot be measured on these sessions or events."""


class AddressError(RetrievalError):
    """A server cannot listen on this host or port."""


class TokenError(RetrievalError):
    """A bearer token is empty or cannot be sent; the message names its environment variable."""


class ChangeLogError(RetrievalError):
    """A log of live changes cannot be read or written; the message names the file."""


class BusyError(RetrievalError):
    """A request has to wait longer than it may; it can be sent again."""


class ClientGoneError(RetrievalError):
    """The client closed its connection before its request was begun."""


class LockedChangeLogError(BusyError, ChangeLogError):
    """Another process holds the log of live changes locked."""


class QueriesError(RetrievalError):
    """A table of queries does not fit its contract; the message names its file, its column and, if known, its row."""


class RequestError(RetrievalError):
    """A request cannot be answered; `field` is the key of the request that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class ExportError(RetrievalError):
    """A version cannot be exported to this target; the message says what to change."""


class StoreFailedError(ExportError):
    """A store cannot be reached, or refuses; the same export may succeed later."""


class SlowRequestError(RetrievalError):
    """A request takes longer than its caller can wait; another thread may answer it without that limit."""
