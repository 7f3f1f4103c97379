"""The session encoder: its network, its training and its ONNX export.

This wing may import the room's other modules; none of them imports it.
"""
