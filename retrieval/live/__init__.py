"""Changes of ads between two nightly tables: their schema, their log, and their effect on eligibility.

Of the other folders of `retrieval`, it may import `search`, `ranking`, `catalogue` and `ann`.
"""
