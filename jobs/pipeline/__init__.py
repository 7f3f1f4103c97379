"""Builds a version from its inputs, stage by stage, and evaluates it.

May import workspace and the ground files.
"""
