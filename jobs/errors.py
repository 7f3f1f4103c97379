"""What can go wrong with a workspace. `jobs.store` hands these on."""


class StoreError(RuntimeError):
    """A workspace cannot do what it was asked for."""


class WorkspaceBusyError(StoreError):
    """Somebody else is writing to the workspace."""


class WorkspaceFullError(StoreError):
    """No space is left where the version was being built."""


class NoVersionError(StoreError):
    """The workspace has no published version, or not the one asked for."""


class CorruptVersionError(StoreError):
    """A file of a version, or `current`, is missing, cut off or changed."""


class FormatVersionError(StoreError):
    """The version was written in a format that this code does not read."""


class InputNotFoundError(StoreError):
    """An input path holds no file."""
