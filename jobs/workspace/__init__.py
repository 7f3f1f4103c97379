"""Stores versions and leases, on disk or in an object store, and checkpoints on disk.

A version, a lease or a checkpoint is written whole or not at all.

May import only the modules that lie directly in `jobs`, and none of graph_build, model and retrieval.
"""
