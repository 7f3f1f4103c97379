"""Looks at a sample of files without Spark, and says what they hold, what is wrong, and what to write about them.

May import ingest, spark and the ground files.
"""
