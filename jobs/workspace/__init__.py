"""Stores versions and leases, on disk or in an object store, and checkpoints on disk.

Each of them is written whole or not at all.

Imports only the room's ground files, and no other room.
"""
