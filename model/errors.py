"""What can go wrong in the model room, each with the way out in its message."""


class ModelError(ValueError):
    """Base of every error that the model room raises on purpose."""


class ModelInputError(ModelError):
    """The item graph or the items table does not hold what training needs."""


class ModelFormatError(ModelError):
    """A model or embeddings folder is missing a part, is corrupt, or was written in another format."""
