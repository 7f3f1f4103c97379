"""The errors that the commands and the workspace raise on purpose."""


class JobError(ValueError):
    """The user gave a command an input or an option that it cannot work with."""


class ConfigError(JobError):
    """The configuration file is missing or invalid."""


class TableError(JobError):
    """A file of queries or test events does not fit its contract."""


class OutputError(JobError):
    """The output file of a command cannot be written."""


class NightError(JobError):
    """A night cannot be built with these inputs and options."""


class GateError(RuntimeError):
    """A night failed its gates; the version published before stays current."""


class StoreError(RuntimeError):
    """A workspace cannot carry out an operation."""


class WorkspaceBusyError(StoreError):
    """Another process is writing to the workspace."""


class LockLostError(WorkspaceBusyError):
    """This process stood still for so long that another one took over its lock, so this one publishes nothing."""


class StoreUnreachableError(StoreError):
    """An object store does not answer, or fails; the same command may succeed later."""


class RolledBackError(StoreError):
    """A version is not made current, because a person rolled it back, or chose another version while it was built."""


class WorkspaceFullError(StoreError):
    """The disk on which a version is being built is full."""


class NoVersionError(StoreError):
    """The workspace has no published version, or not the requested one."""


class CorruptVersionError(StoreError):
    """A file of a version, or `current`, is missing, cut off or changed.

    Args:
        damage: which file, and what is wrong with it.
        remedy: what to do, in one sentence.
    """

    def __init__(self, damage: str, remedy: str) -> None:
        super().__init__(f"{damage}. {remedy}")
        self.damage = damage


class FormatVersionError(StoreError):
    """The version was written in a format that this code cannot read."""


class InputNotFoundError(StoreError):
    """An input path does not exist or has no files."""
