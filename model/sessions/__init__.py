"""The session encoder: its network, its training and its ONNX export.

This folder may import the other modules of `model`; none of them imports it.
"""
