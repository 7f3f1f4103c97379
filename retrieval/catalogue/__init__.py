"""The data that is served: items with their vectors, typed edges, ads with the rules of eligibility, and score terms.

Imports no other folder of `retrieval`.
"""
