"""Stores versions, checkpoints and leases on disk or in an object store, whole or not at all.

Imports only the room's ground files, and no other room.
"""
