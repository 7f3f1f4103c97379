"""The command that hands a version over to other stores: `export`."""

import argparse

from jobs.cli.command import Command, ExitCode, add_workspace, open_version, write_line
from jobs.errors import StoreUnreachableError
from jobs.progress import StageProgress

# The keys of `retrieval.export.stores.STORES`, written here so that parsing a command line imports less.
STORES = ("parquet", "qdrant", "pgvector", "milvus", "opensearch")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace(parser)
    parser.add_argument("--to", required=True, choices=STORES, help="the kind of store")
    parser.add_argument(
        "--name",
        default="lightsage",
        metavar="NAME",
        help="alias of the collection or index, and what the names of tables begin with (default lightsage)",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="parquet, opensearch: a folder; pgvector: the URL of a database; qdrant: a URL, or the folder of a local "
        "database; milvus: a URL, or the file NAME.db of Milvus Lite",
    )


def _export(options: argparse.Namespace) -> int:
    from retrieval.errors import StoreFailedError
    from retrieval.export.rows import Export
    from retrieval.export.stores import write_to
    from retrieval.index_folder import read_index

    version, config = open_version(options, "index")
    with StageProgress().stage(f"export to {options.to}") as report:
        export = Export(version.name, read_index(version.path / "index"), config.retrieval, report)
        try:
            write_to(options.to, export, options.target, options.name)
        except StoreFailedError as error:
            raise StoreUnreachableError(str(error)) from error
    write_line(
        f"{export.index.catalogue.n_rows:,} items, {export.advertised:,} with an ad, {export.dim} dimensions: "
        f"version {version.name}"
    )
    if export.left_out:
        write_line(f"The vectors do not carry: {', '.join(export.left_out)}")
    return ExitCode.OK


COMMANDS = (Command("export", "write vectors, attributes and ads to another store", _export_arguments, _export),)
