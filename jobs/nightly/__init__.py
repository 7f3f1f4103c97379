"""Runs a night: builds a version, compares it with the published one, and publishes it if it passes the gates.

May import pipeline, workspace and the modules that lie directly in `jobs`.
"""
