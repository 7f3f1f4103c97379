"""Measures the finished graph and draws it: the HTML report and one item's neighbourhood.

May import edges, sessions, ingest, spark and the ground files (see `graph_build`).
"""
