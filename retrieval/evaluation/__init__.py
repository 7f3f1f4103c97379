"""Measures how well models and counting baselines predict the next items of later sessions.

Of the other folders of `retrieval`, it may import `ranking`, `catalogue` and `ann`.
"""
