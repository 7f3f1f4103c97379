"""Assembles checked events into sessions, splits off the hold-out, and extracts training pairs.

May import ingest, spark and the ground files (see `graph_build`).
"""
