"""Errors of the package `model`; each message says what to do."""


class ModelError(ValueError):
    """Base class of the errors that the package `model` raises."""


class ModelInputError(ModelError):
    """The item graph, the items table or a setting does not fit what training needs."""


class ModelFormatError(ModelError):
    """A model or embeddings folder is missing a part, is corrupt, or was written in another format."""
