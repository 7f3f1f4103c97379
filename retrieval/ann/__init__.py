"""Approximate search: FAISS indexes, their tuning to a target recall, and search over Matryoshka prefixes.

Imports only the room's ground files.
"""
