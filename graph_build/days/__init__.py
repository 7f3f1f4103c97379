"""Stores days of events with their aggregates, and gives the build its log, from files or from stored days.

May import edges, sessions, ingest, spark and the ground files.
"""
