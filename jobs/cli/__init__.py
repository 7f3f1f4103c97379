"""The `lightsage` commands: parsing, printing and exit codes.

May import every other folder of `jobs`. A process that runs commands imports our packages, even if modules of the same
names come first on the path.
"""

from jobs.packages import prefer_own_rooms

prefer_own_rooms()
