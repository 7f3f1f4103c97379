"""The functions that notebooks and other programs import from `jobs`.

Some of them do the work of a command, the others read the tables of a version. `jobs/__init__.py` lists their names;
docs/python.md describes them. This folder may import every folder of `jobs` but cli.
"""
