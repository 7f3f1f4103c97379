"""Hands the vectors, attributes and ads of a version over to stores that people already run.

May import search, index_folder, ranking, catalogue, ann and the ground files.
"""
