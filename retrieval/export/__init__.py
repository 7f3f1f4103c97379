"""Hands the vectors, attributes and ads of a version over to stores that people already run.

Of the other folders of `retrieval`, it may import `search`, `ranking`, `catalogue` and `ann`.
"""
