"""Inspects several tables together, and checks the tables of a build before Spark starts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import InputConfig
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import Table
from graph_build.ingest.files import SPARK_TABLE, files_of, find_sources
from graph_build.ingest.values import loose_id
from graph_build.inspection.examine import effective_section, examine
from graph_build.inspection.files import FileGroup, group_files
from graph_build.inspection.findings import Fault, TableFindings

log = logging.getLogger(__name__)

_MIN_OVERLAP = 0.1
_FEW_EVENTS = 1_000


@dataclass
class Inspection:
    """What the inspected paths hold.

    Args:
        tables: the tables, events first.
        faults: what is wrong with files that belong to no table.
        notes: what is odd about the tables taken together.
    """

    tables: list[TableFindings]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, table: Table) -> list[TableFindings]:
        """Return the findings about one of the three tables."""
        return [findings for findings in self.tables if findings.table == table]


def inspect_paths(paths: Sequence[str], config: InputConfig) -> Inspection:
    """Return which tables the paths hold, which settings these tables need, and what is wrong with them.

    Args:
        paths: files and folders of any of the three tables.
        config: what is configured already.
    """
    groups, faults = group_files(paths)
    return inspect_groups(groups, faults, config)


def inspect_groups(groups: Sequence[FileGroup], faults: Sequence[str], config: InputConfig) -> Inspection:
    """Return which settings tables need, and what is wrong with them.

    Args:
        groups: the files of each table.
        faults: what is wrong with files that belong to no table.
        config: what is configured already.
    """
    inspection = Inspection([], list(faults))
    for group in groups:
        try:
            inspection.tables.append(examine(group.table, group.paths, group.files, config, group.layout))
        except GraphInputError as error:
            inspection.faults.append(str(error))
    order = ("events", "items", "ads", None)
    inspection.tables.sort(key=lambda findings: order.index(findings.table))
    inspection.notes = _notes_on_all(inspection)
    return inspection


def check_tables(paths: Mapping[Table, Sequence[str]], config: InputConfig) -> list[Fault]:
    """Return everything that is wrong with the tables of a build, without Spark.

    Rows are checked in a sample; columns, types and the text of CSV are checked in every file. A Spark table
    (`table:NAME`) is not checked.

    Args:
        paths: table → its files and folders.
        config: the `[input]` section.
    """
    faults: list[Fault] = []
    tables: list[TableFindings] = []
    for table, of_table in paths.items():
        looked_at = [path for path in of_table if not path.startswith(SPARK_TABLE)]
        files: list[str] = []
        for path in looked_at:
            try:
                files += files_of(table, path, getattr(config, table).format)
            except GraphInputError as error:
                message = str(error).replace(f": the {table} file or folder does not exist", " does not exist")
                faults.append(Fault(message, cause="path"))
        if not files:
            continue
        findings = _looked_at(table, looked_at, files, config)
        if findings is not None:
            tables.append(findings)
            faults += findings.faults
        faults += _faults_of_files(table, looked_at, config, findings)
    faults += [Fault(note, stops=False) for note in _strangers(Inspection(tables))]
    return list(dict.fromkeys(faults))


def _looked_at(table: Table, paths: Sequence[str], files: Sequence[str], config: InputConfig) -> TableFindings | None:
    """Return what a sample shows of a table, or None if it cannot be examined.

    In that case the check of all files still reports what is wrong.
    """
    try:
        return examine(table, paths, files, config)
    except GraphInputError:
        return None
    except Exception:  # a build that can read the files must not fail because of their sample
        log.debug("the sample of %s could not be looked at", table, exc_info=True)
        return None


def _faults_of_files(
    table: Table, paths: Sequence[str], config: InputConfig, findings: TableFindings | None
) -> list[Fault]:
    """Return what the check of all files finds beyond the faults that are known already."""
    if findings is not None:
        values = {table: effective_section(findings, config), **findings.input_settings}
        config = config.model_copy(update=values)
    try:
        find_sources(table, list(paths), config)
    except GraphInputError as error:
        known = tuple(fault.message.partition(";")[0] for fault in findings.faults) if findings else ()
        return [Fault(line, cause="columns") for line in str(error).splitlines() if not line.startswith(known)]
    return []


def _notes_on_all(inspection: Inspection) -> list[str]:
    """Return what is odd about the tables taken together."""
    events = inspection.of("events")
    total = sum(findings.n_rows for findings in events)
    few = f"there are only {total:,} events; what is learned from so few says little"
    return [few] * bool(events and total < _FEW_EVENTS) + _strangers(inspection)


def _strangers(inspection: Inspection) -> list[str]:
    """Return a note for each table whose items are nearly all missing from the catalogue."""
    notes: list[str] = []
    known = _ids(inspection.of("items"))
    if known is None:
        return notes
    for table in ("events", "ads"):
        named = _ids(inspection.of(table), whole=False)
        if named is None or not len(named):
            continue
        share = (pc.sum(pc.is_in(named, known)).as_py() or 0) / len(named)
        if share < _MIN_OVERLAP:
            notes.append(
                f"only {share:.0%} of the items that {table} name are among the items: {table} name "
                f"{_three(named)}, the items are {_three(known)}{_alike(named, known)}; are these the same ids?"
            )
    return notes


def _ids(tables: Sequence[TableFindings], *, whole: bool = True) -> pa.Array | None:
    """Return the item ids of tables; None if there are none or, with `whole`, if not all rows were looked at."""
    arrays = []
    for findings in tables:
        own = findings.mapping.get("item_id")
        if not isinstance(own, str) or own not in findings.columns or (whole and not findings.is_all):
            return None
        arrays.append(findings.columns[own].values.cast(pa.string()).drop_null())
    return pc.unique(pa.concat_arrays(arrays)) if arrays else None


def _three(ids: pa.Array) -> str:
    return ", ".join(repr(text) for text in ids[:3].to_pylist())


def _alike(named: pa.Array, known: pa.Array) -> str:
    loose = {loose_id(text): text for text in known.to_pylist()}
    pair = next(((text, loose[loose_id(text)]) for text in named.to_pylist() if loose_id(text) in loose), None)
    return "" if pair is None else f"; {pair[0]!r} may be {pair[1]!r}, if one table has lost zeros of its ids"
