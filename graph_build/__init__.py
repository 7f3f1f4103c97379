"""The first of the four packages: Spark turns event logs, items and ads into a graph of items with typed edges.

The public surface is `graph_build.config.GraphConfig`, `graph_build.spark.session.spark_session` and
`graph_build.build.build_graphs`; importing the package alone loads neither Spark nor Java.

The ground files are the modules that stand outside the folders of the package (config, errors, decay, …) and that every
folder may import. `build` and `counters` are not among them, because they import folders themselves.
"""
