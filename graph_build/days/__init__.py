"""Stores days of events with their aggregates, and gives the build its log of sessions from files or stored days.

May import edges, sessions, ingest, spark and the ground files.
"""
