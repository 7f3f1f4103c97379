"""Reads events, items and ads, checks them against the input contract, and quarantines rows that break it.

May import spark and the ground files.
"""
