"""Approximate search: FAISS indexes, their tuning to a target recall, and search over Matryoshka prefixes.

Imports no other folder of `retrieval`.
"""
