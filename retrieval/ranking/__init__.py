"""Scores and orders candidates by embeddings of items and of sessions, and reorders them with a pre-ranker.

May import catalogue, ann and the ground files.
"""
