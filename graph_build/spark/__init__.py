"""Starts Spark and the Java it runs on, compiles kernels, and writes files that Spark does not write itself.

Imports only the ground files.
"""
