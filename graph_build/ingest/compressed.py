"""Opens files to read their decompressed bytes, and recognises the kind of a file by its first bytes."""

import gzip
import io
import re
from typing import IO, cast

import pyarrow as pa

from graph_build.spark.storage import open_file

ENDS = (".gz", ".zst")
# Files from which no table is read: the pattern of their first bytes → what they are, and what to do with them. A
# magic number of letters may also begin a table. Such patterns therefore have bytes that follow the magic number.
_FOREIGN = {
    rb"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save the sheet as CSV",
    rb"BZh\d1AY&SY": "compressed with bzip2; unpack it, or compress it with gzip",
    rb"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    rb"7z\xbc\xaf": "a 7z archive; unpack it",
    rb"ORC[^ -~\t\r\n]": "an ORC file; write it as parquet",
    rb"Obj\x01": "an Avro file; write it as parquet",
    rb"ARROW1\0": "an Arrow file; write it as parquet",
    rb"SQLite format 3\0": "a SQLite database; export the table as CSV",
    rb"\x89HDF": "an HDF5 file; write it as parquet",
    rb"\x80[\x02-\x05]": "a Python pickle; write it as parquet",
    rb"%PDF-": "a PDF document",
}
MAGIC_BYTES = 16
"""The number of first bytes by which the kind of a file is known."""


def foreign(head: bytes) -> str | None:
    """Return what kind of file begins with these bytes, and what to do with it; None if a table may begin with them.

    Args:
        head: the first `MAGIC_BYTES` or more.
    """
    return next((kind for magic, kind in _FOREIGN.items() if re.match(magic, head)), None)


def compression_of(head: bytes) -> str:
    """Return `gzip` or `zstd` by the first bytes of a file, or "" for any other file."""
    return "gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head[:4] == b"\x28\xb5\x2f\xfd" else ""


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


def open_bytes(file: str, compression: str | None = None) -> IO[bytes]:
    """Open a file to read its decompressed bytes; the caller closes it.

    Args:
        file: a path or URI.
        compression: `gzip`, `zstd` or ""; None = the one that the end of the name says.
    """
    opened = open_file(file)
    if compression is None:
        compression = "gzip" if file.lower().endswith(".gz") else "zstd" if file.lower().endswith(".zst") else ""
    if compression == "gzip":
        return cast(IO[bytes], gzip.open(opened))
    if compression == "zstd":
        return cast(IO[bytes], io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(opened, mode="r"), "zstd")))
    return opened


def what_it_is(head: bytes) -> str | None:
    """Return why a file is not text, and what to do with it; None if its first bytes may be text.

    Args:
        head: the first `MAGIC_BYTES` or more.
    """
    if compression := compression_of(head):
        return f"compressed with {compression}; its name must end in {'.gz' if compression == 'gzip' else '.zst'}"
    if head.startswith(b"PAR1"):
        return 'parquet; name it .parquet, or set format = "parquet"'
    return foreign(head)
