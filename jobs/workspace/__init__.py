"""Stores versions, checkpoints and leases, on disk or in an object store; each is written whole or not at all.

Imports only the room's ground files, and no other room.
"""
