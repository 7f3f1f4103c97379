"""Opens files to read their bytes, decompressed by the ends of their names: `.gz` and `.zst`."""

import gzip
import io
from typing import IO, cast

import pyarrow as pa

from graph_build.spark.storage import open_file

ENDS = (".gz", ".zst")
# What compressed and other binary files begin with → what they are.
_MAGIC = {
    b"\x1f\x8b": "compressed with gzip; its name must end in .gz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; its name must end in .zst",
    b"PAR1": 'parquet; name it .parquet, or set format = "parquet"',
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"BZh": "compressed with bzip2; compress it with gzip or zstd",
    b"Obj\x01": "Avro; write it as parquet",
    b"ORC": "ORC; write it as parquet",
}


def without_compression(name: str) -> str:
    """Return a name in lower case without the end that says how the file is compressed.

    >>> without_compression("Log.CSV.gz")
    'log.csv'
    """
    lower = name.lower()
    return next((lower.removesuffix(end) for end in ENDS if lower.endswith(end)), lower)


def is_compressed(file: str) -> bool:
    """Return whether the name of a file says that it is compressed."""
    return file.lower().endswith(ENDS)


def open_bytes(file: str) -> IO[bytes]:
    """Open a file to read its decompressed bytes; the caller closes it.

    Args:
        file: a path or URI.
    """
    opened = open_file(file)
    if file.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(opened))
    if file.lower().endswith(".zst"):
        return cast(IO[bytes], io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(opened, mode="r"), "zstd")))
    return opened


def what_it_is(head: bytes) -> str | None:
    """Return what a file of another kind is and what to do with it; None if its first bytes may be text.

    Args:
        head: the first four bytes or more.
    """
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
