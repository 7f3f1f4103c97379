"""The HTTP API and its page, over a version that is reloaded while it serves.

May import every wing but evaluation.
"""
