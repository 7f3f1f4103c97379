"""What can go wrong in the commands and with a workspace (`jobs.workspace.workspace` hands its errors on)."""


class JobError(ValueError):
    """A command was given something that it cannot work with."""


class ConfigError(JobError):
    """The configuration file is missing or wrong."""


class TableError(JobError):
    """A queries or test events file does not fit its contract."""


class OutputError(JobError):
    """The file to write cannot be written."""


class NightError(JobError):
    """A night cannot be built as it was asked for."""


class GateError(RuntimeError):
    """A night was built, and did not pass its gates: what was published before stays."""


class StoreError(RuntimeError):
    """A workspace cannot do what it was asked for."""


class WorkspaceBusyError(StoreError):
    """Somebody else is writing to the workspace."""


class WorkspaceFullError(StoreError):
    """No space is left where the version was being built."""


class NoVersionError(StoreError):
    """The workspace has no published version, or not the one asked for."""


class CorruptVersionError(StoreError):
    """A file of a version, or `current`, is missing, cut off or changed: `wrong` names it."""

    def __init__(self, wrong: str, way_out: str) -> None:
        super().__init__(f"{wrong}. {way_out}")
        self.wrong = wrong


class FormatVersionError(StoreError):
    """The version was written in a format that this code does not read."""


class InputNotFoundError(StoreError):
    """An input path holds no file."""
