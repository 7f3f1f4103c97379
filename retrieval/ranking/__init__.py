"""Scores and orders candidates by embeddings of items and of sessions, and reorders them with a pre-ranker.

Of the other folders of `retrieval`, it may import `catalogue` and `ann`.
"""
