"""Judges versions before they are published: compares two versions on later events, and checks a version's gates.

May import nightly, pipeline, workspace and the modules that lie directly in `jobs`.
"""
