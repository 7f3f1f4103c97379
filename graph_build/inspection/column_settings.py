"""Finds the settings that map the columns of the log to those of the contract."""

from collections.abc import Mapping
from dataclasses import replace

import pyarrow.compute as pc

from graph_build.config import TableInput
from graph_build.ingest.contract import REQUIRED, column_kinds, is_text
from graph_build.inspection.columns import Column, is_basic_date
from graph_build.inspection.findings import Fault, TableFindings
from graph_build.inspection.recognise import Guess, missing, type_of_rows
from graph_build.inspection.sample import Sample
from graph_build.inspection.toml_text import toml_value


def settle_columns(findings: TableFindings, guess: Guess, section: TableInput) -> None:
    """Map each column of the contract: as configured, else to the one of its name, else to one that seems to hold it.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        guess: what the columns seem to be.
        section: the settings of the table that are configured already.
    """
    assert findings.table is not None
    constants = section.constants
    names = set(findings.columns) | {"#", "#row"}
    mapping = {
        name: own
        for name, own in section.columns.items()
        if all(part in names for part in ([own] if isinstance(own, str) else own))
    }
    # A column that has the name of a column of the contract is read as that column, whatever its values look like.
    mapping |= {name: name for name in column_kinds(findings.table) if name not in section.columns and name in names}
    taken = {own for own in mapping.values() if isinstance(own, str)}
    suggested: dict[str, str | list[str]] = {}
    needed = {*REQUIRED[findings.table], "session_id", "user_id"}
    for name, own in guess.mapping.items():
        if name in mapping or name in constants or own in taken or (name in section.columns and name not in mapping):
            continue
        if section.columns and name not in needed:  # a configuration that maps columns also decides on optional ones
            continue
        mapping[name] = own
        if own != name:
            suggested[name] = own
    findings.mapping = dict(mapping)
    _check_needed(findings, guess, section, suggested)
    _join_date_and_time(findings, suggested)
    if suggested:
        findings.settings["columns"] = suggested


def _check_needed(
    findings: TableFindings,
    guess: Guess,
    section: TableInput,
    suggested: Mapping[str, str | list[str]],
) -> None:
    """Note each needed column that is not there under its name, with the line to write."""
    table, file = findings.table, findings.files[0]
    assert table is not None
    for name in missing(table, section.constants):
        own = section.columns.get(name, name)
        if name in findings.mapping and name not in suggested:
            continue
        seems = guess.mapping.get(name)
        if name == "event_type" and seems is None:
            kind = type_of_rows(list(findings.columns), findings.files)
            findings.settings["constants"] = {"event_type": kind}
            findings.comments["constants"] = f"no column says what happened; all rows seem to be of one type, {kind!r}"
            message, line = findings.comments["constants"], f'[input.events.constants] event_type = "{kind}"'
            findings.faults.append(Fault(f"{file}: {message}", line, cause=name))
            continue
        message = f"{file}: {table} need a column {own!r}; {_candidate(seems, findings)}"
        line = f"[input.{table}.columns] {name} = {toml_value(seems or 'your_column')}"
        findings.faults.append(Fault(message, line, cause=name))
    if table == "events" and not {"session_id", "user_id"} & ({*findings.mapping} - {*suggested}):
        _check_person(findings, guess)


def _candidate(own: str | None, findings: TableFindings) -> str:
    if own is not None:
        return f"{own!r} seems to hold it"
    return f"found the columns {', '.join(findings.columns) or 'none'}"


def _check_person(findings: TableFindings, guess: Guess) -> None:
    file = findings.files[0]
    names = [name for name in ("session_id", "user_id") if name in guess.mapping]
    lines = [f"[input.events.columns] {name} = {toml_value(guess.mapping[name])}" for name in names]
    seems = _candidate(guess.mapping[names[0]] if names else None, findings)
    line = lines[0] if lines else '[input.events.columns] user_id = "your_column"'
    message = f"{file}: events need a column 'session_id' or 'user_id'; {seems}"
    findings.faults.append(Fault(message, line, cause="session_id"))


def _join_date_and_time(findings: TableFindings, suggested: dict[str, str | list[str]]) -> None:
    """Join a column of dates with one of times of day."""
    own = findings.mapping.get("timestamp")
    if not isinstance(own, str) or own not in findings.columns:
        return
    if findings.columns[own].kind != "date" and not is_basic_date(findings.columns[own]):
        return
    clock = next((column.name for column in findings.columns.values() if _is_clock(column)), None)
    if clock is not None:
        findings.mapping["timestamp"] = (own, clock)
        suggested["timestamp"] = [own, clock]


def _is_clock(column: Column) -> bool:
    if column.kind != "text" or not is_text(column.values.type):
        return False
    matches = pc.match_substring_regex(column.values.drop_null(), r"^\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?$")
    return bool(pc.all(matches).as_py())


def named(findings: TableFindings, sample: Sample, guess: Guess) -> tuple[Sample, Guess]:
    """Give the columns of files without a header the names of the contract, so that no mapping is needed.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        sample: rows of the table.
        guess: what the columns seem to be.
    """
    names = {own: name for name, own in guess.mapping.items()}
    findings.columns = {
        names.get(own, own): replace(c, name=names.get(own, own)) for own, c in findings.columns.items()
    }
    findings.layout = replace(findings.layout, names=tuple(names.get(own, own) for own in findings.layout.names))
    findings.settings["names"] = list(findings.layout.names)
    line = f"[input.{guess.table or 'events'}] header = false and names = {toml_value(findings.settings['names'])}"
    findings.faults = [replace(fault, line=line) if fault.cause == "header" else fault for fault in findings.faults]
    rows = sample.rows.rename_columns([names.get(own, own) for own in sample.rows.column_names])
    return replace(sample, rows=rows), replace(guess, mapping={name: name for name in guess.mapping})
