"""Turns sessions into the graph's nodes and its strong-click, Swing and co-search edges.

May import sessions, ingest, spark and the ground files (see `graph_build`).
"""
