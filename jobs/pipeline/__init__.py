"""Builds a version stage by stage (graph, training, choices on the hold-out, index), and evaluates versions.

May import workspace and the modules that lie directly in `jobs`.
"""
