"""Spark settings of every JVM that a test starts, those of commands and of clusters too."""

import os
from pathlib import Path

os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).with_name("spark")))
