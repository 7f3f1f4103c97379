"""Runs a night: measures the new version and its drift against the published one, and publishes it if its gates pass.

May import pipeline, workspace and the ground files.
"""
