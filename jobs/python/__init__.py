"""What notebooks and other programs import from `jobs`: the functions behind the commands, and the tables of a version.

May import every folder of `jobs` but cli. `jobs/__init__.py` lists the names; docs/python.md describes them.
"""
