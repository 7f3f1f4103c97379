"""Judges a version before it is published: compares two versions on later events, and checks the gates of one.

May import nightly, pipeline, workspace and the ground files.
"""
