"""The first of the four packages: Spark turns event logs, items and ads into a graph of items with typed edges.

The public surface is `graph_build.config.GraphConfig`, `graph_build.spark.session.spark_session` and
`graph_build.build.build_graphs`; importing the package alone loads neither Spark nor Java.

Its folders are called wings. The ground files are the modules outside them (config, errors, decay, …); every wing may
import them. `build` and `counters` are not ground files, because they import wings.
"""
