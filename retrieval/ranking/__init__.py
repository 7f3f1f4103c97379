"""Scores and orders candidates: by embeddings, with a session encoder, and with a re-ranker.

May import catalogue, ann and the ground files.
"""
