"""The `lightsage` commands: parsing, printing and exit codes.

May import every wing of the room.
"""
