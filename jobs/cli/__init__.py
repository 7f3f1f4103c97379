"""The `lightsage` commands: parsing, printing and exit codes.

May import every wing of the room. A process that runs commands finds our packages first, even if the path begins with a
folder that has modules of the same names.
"""

from jobs.packages import prefer_own_rooms

prefer_own_rooms()
