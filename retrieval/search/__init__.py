"""Answers a retrieval request: filters, eligibility, search plan, limits and explanation.

Of the other folders of `retrieval`, it may import `ranking`, `catalogue` and `ann`.
"""
