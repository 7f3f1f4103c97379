"""Finds out how a table's files are written, and which settings to write if names and configuration say otherwise."""

from dataclasses import replace

from graph_build.config import TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import REQUIRED, Table
from graph_build.inspection.findings import TableFindings
from graph_build.inspection.layout import Layout, sniff
from graph_build.inspection.sample import read_sample

_ENDS = {
    "csv": (".csv", ".tsv", ".txt", ".tab"),
    "json": (".json", ".jsonl", ".ndjson"),
}
_TABS = (".tsv", ".tab")
_FORMATS = {"csv": "CSV", "json": "JSON, one object a line", "weblog": "the log of a web server", "parquet": "parquet"}


def settle_layout(findings: TableFindings, section: TableInput) -> None:
    """Note how the files are written, and the settings to write if file names and configuration say otherwise.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        section: the settings of the table that are configured already.

    Raises:
        GraphInputError: the first file is neither parquet nor a table of text.
    """
    actual, file = findings.layout, findings.files[0]
    name = file.lower().removesuffix(".gz").removesuffix(".zst")
    by_name = next((kind for kind, ends in _ENDS.items() if name.endswith(ends)), "parquet")
    if actual.format == "csv" and by_name == "parquet" and section.format is None and len(actual.names) < 2:
        raise GraphInputError(f"{file}: this is neither parquet nor a table of text")
    if actual.format != (section.format or by_name):
        findings.write("format", actual.format, f"{file} is {_FORMATS[actual.format]}")
    if actual.format != "csv":
        return
    separator = section.separator or ("\t" if name.endswith(_TABS) else ",")
    explicit = {"separator": separator, "quote": section.quote, "header": section.header, "names": section.names}
    configured = sniff(file, section.model_copy(update=explicit))
    if _has_needed(configured, section, findings.table):
        findings.layout = configured
        return
    if section.separator is not None and len(configured.names) >= len(actual.names):
        findings.layout = actual = sniff(file, section)
    if actual.separator != separator:
        findings.write("separator", actual.separator, f"the values of {file} are separated by {actual.separator!r}")
    if actual.quote != section.quote:
        findings.write("quote", actual.quote, f"the values of {file} stand in other quotes than '\"', or in none")
    if section.names:
        findings.layout = replace(actual, names=section.names, header=section.header)
    elif not actual.header and section.header:
        message = f"{file} has no header: its first line is {', '.join(_first_cells(file, actual))}"
        findings.write("header", False, message)
        findings.settings["names"] = list(actual.names)


def _has_needed(layout: Layout, section: TableInput, table: Table | None) -> bool:
    """Return whether a file that is written in this layout has all needed columns."""
    needed = [section.columns.get(name, name) for name in REQUIRED[table or "events"] if name not in section.constants]
    if table in (None, "events"):  # one of the two is enough
        person = [section.columns.get(name, name) for name in ("session_id", "user_id")]
        needed = [own for own in needed if own not in person]
        needed.append(next((own for own in person if _is_there(own, layout)), person[0]))
    return all(_is_there(own, layout) for own in needed)


def _is_there(own: str | tuple[str, ...], layout: Layout) -> bool:
    parts = (own,) if isinstance(own, str) else own
    return all(part != "" and (part in layout.names or part in ("#", "#row")) for part in parts)


def _first_cells(file: str, layout: Layout) -> list[str]:
    row = read_sample(file, layout, most_bytes=1 << 16).rows.slice(0, 1).to_pylist()
    return [str(value) for value in row[0].values()][:6] if row else []
