"""Stores versions and leases, on disk or in an object store, and checkpoints on disk.

Each of them is written whole or not at all.

Imports only the modules that lie directly in `jobs`, and none of graph_build, model and retrieval.
"""
