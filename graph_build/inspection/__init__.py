"""Looks at a sample of files without Spark, and says what they hold, what is wrong, and which settings they need.

May import ingest, spark and the ground files (see `graph_build`).
"""
