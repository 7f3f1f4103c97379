"""The HTTP API and its page, over a version that can be replaced while the server runs.

May import every other folder of `retrieval` except `evaluation`.
"""
