"""Stores versions and leases, on disk or in an object store, and checkpoints on disk.

Each of them is written whole or not at all.

Imports only the modules of `jobs` outside its folders, and none of graph_build, model and retrieval.
"""
