"""Settings of what tests start: of every JVM, those of commands and of clusters too, and of threads."""

import os
from pathlib import Path

os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).with_name("spark")))
# As the command does: threads that wait by spinning starve each other, the more so beside a second process of tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
