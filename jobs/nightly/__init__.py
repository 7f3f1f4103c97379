"""Runs a night: builds a version, compares it with the published one, and publishes what passes the gates.

May import pipeline, workspace and the ground files.
"""
