"""Stores each day of events with its aggregates, and hands the build one log, from files or from stored days.

May import edges, sessions, ingest, spark and the ground files.
"""
