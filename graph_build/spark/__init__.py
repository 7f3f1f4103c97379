"""Starts Spark and the Java it runs on, compiles kernels, and reads and writes files outside Spark.

Imports only the ground files (see `graph_build`).
"""
