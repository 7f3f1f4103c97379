"""The Spark session, the Java it runs on, compiled kernels, and files beside Spark's own.

Imports only the room's ground files.
"""
