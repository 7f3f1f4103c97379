"""Answers a retrieval request: filters, eligibility, search plan, limits and explanation.

May import ranking, catalogue, ann, index_folder and the ground files.
"""
