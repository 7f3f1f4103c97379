"""First room of the flow: event logs, items and ads in, the typed item graph out (Spark).

The public surface is `graph_build.config.GraphConfig`, `graph_build.spark.session.spark_session` and
`graph_build.build.build_graphs`; importing the package alone loads neither Spark nor Java.
"""
