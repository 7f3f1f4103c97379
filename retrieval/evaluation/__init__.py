"""Measures rankers on later sessions, beside counting baselines.

May import ranking, catalogue, ann and the ground files.
"""
