"""Changes of ads between two nightly tables: their schema, their log, and their effect on eligibility.

May import search, and all that search may import.
"""
