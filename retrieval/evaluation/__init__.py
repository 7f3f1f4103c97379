"""Measures how well models and counting baselines find what shoppers did next in later sessions.

May import ranking, catalogue, ann and the ground files.
"""
