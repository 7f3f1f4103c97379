"""What is served: items with their vectors, typed edges, ads with their eligibility, and the terms of a score.

Imports only the room's ground files.
"""
