"""Examines one table: what its files are, which settings they need, and what is wrong even with these settings.

Each step goes on as if the faults that it finds were corrected, so that one fault does not hide the next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from graph_build.config import InputConfig, TableInput
from graph_build.ingest.contract import Table
from graph_build.ingest.folders import folder_columns
from graph_build.inspection.column_settings import named, settle_columns
from graph_build.inspection.columns import Column, describe
from graph_build.inspection.facts import count_ids, suggested_zone, time_facts
from graph_build.inspection.findings import Fault, TableFindings
from graph_build.inspection.flat_records import lists_of
from graph_build.inspection.layout import Layout, sniff
from graph_build.inspection.layout_settings import settle_layout
from graph_build.inspection.recognise import Guess, missing, recognise
from graph_build.inspection.row_faults import ContractRows, row_faults
from graph_build.inspection.sample import Sample, exploded, read_sample, with_written_lists
from graph_build.inspection.toml_text import toml_value
from graph_build.inspection.value_settings import settle_decimal, settle_levels, settle_times, settle_types
from graph_build.spark.storage import size_of

_SAMPLED_FILES = 3
_WEB_LOG = (
    "it is the log of a web server, and its configuration must say where in a page's path the item stands: "
    "--recipe weblog reads /product/ITEM"
)


def examine(
    table: Table | None, paths: Sequence[str], files: Sequence[str], config: InputConfig, layout: Layout | None = None
) -> TableFindings:
    """Return what a table is, which settings it needs, and what is wrong with it.

    Args:
        table: which table it is; None if that is to be found out.
        paths: the paths that were given.
        files: all files of the table.
        config: what is configured already.
        layout: how the first file is written, if that is known.

    Raises:
        GraphInputError: a file cannot be read at all.
    """
    section = _section(table, config)
    actual = layout or sniff(files[0], None)
    findings = TableFindings(table, list(paths), list(files), sum(map(size_of, files[:1000])), actual)
    settle_layout(findings, section)
    sample = _sample(findings, section)
    null_words = config.null_words if findings.layout.format == "csv" else ()
    if repeated := sorted({name for name in findings.layout.names if name and findings.layout.names.count(name) > 1}):
        findings.notes.append(f"the header names {repeated[0]!r} twice; rename one, because such a file is refused")
    sample, guess = _choose_rows(findings, sample, section, null_words)
    if guess.table is None and _names_items(findings, section):
        guess = replace(guess, table="events")
    findings.table, findings.why_none = table or guess.table, guess.why_none
    findings.n_rows, findings.n_sampled = sample.total, sample.n_seen
    if sample.encoding not in ("utf-8", "utf-8-sig") and config.encoding in ("utf-8", "UTF-8"):
        _settle_encoding(findings, sample.encoding)
    if findings.table is None:
        if findings.layout.format == "weblog":
            findings.why_none = _WEB_LOG
        return findings
    if "names" in findings.settings:
        sample, guess = named(findings, sample, guess)
    settle_columns(findings, guess, section)
    if findings.table == "events":
        settle_types(findings, config.events, config.max_bad_share)
    settle_times(findings, section)
    settle_decimal(findings, section)
    if findings.table == "items":
        settle_levels(findings, section)
    effective = effective_section(findings, config)
    rows = ContractRows.of(findings.table, sample.rows, effective, null_words)
    findings.faults += row_faults(findings, rows, sample, config.max_bad_share)
    if findings.table == "events":
        findings.times = time_facts(rows, effective)
        findings.counts = count_ids(findings, rows)
        if findings.times and config.day_zone == "UTC" and (zone := suggested_zone(rows, findings.times)):
            findings.notes.append(zone)
    return findings


def effective_section(findings: TableFindings, config: InputConfig) -> TableInput:
    """Return the settings of a table: those that are configured, and those that the inspection says to write.

    Args:
        findings: what was found out.
        config: what is configured.
    """
    section = _section(findings.table, config)
    values: dict[str, Any] = section.model_dump(exclude_unset=True)
    for key, value in findings.settings.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return type(section).model_validate(values)


def _section(table: Table | None, config: InputConfig) -> TableInput:
    return config.events if table is None else getattr(config, table)


def _sample(findings: TableFindings, section: TableInput) -> Sample:
    """Return rows of the first, the middle and the last file."""
    files, n = findings.files, len(findings.files)
    chosen = [files[at] for at in dict.fromkeys((0, n // 2, n - 1))][:_SAMPLED_FILES]
    samples = []
    for file in chosen:
        layout = findings.layout if file == files[0] else _layout_like(file, findings.layout)
        sample = read_sample(file, layout, section.explode)
        folders = {key: value for key, value in _folders(file).items() if key not in sample.rows.column_names}
        for key, value in folders.items():
            sample.rows = sample.rows.append_column(key, pa.repeat(pa.scalar(value, pa.string()), len(sample.rows)))
        samples.append(sample)
    rows = pa.concat_tables([sample.rows for sample in samples], promote_options="permissive")
    first = samples[0]
    odd = {sample.encoding for sample in samples} - {"utf-8", "utf-8-sig"}
    return Sample(
        rows,
        is_all=n == len(chosen) and all(sample.is_all for sample in samples),
        total=round(sum(sample.total for sample in samples) * n / len(chosen)),
        surplus=[line for sample in samples for line in sample.surplus],
        short=sum(sample.short for sample in samples),
        broken=[line for sample in samples for line in sample.broken],
        records=[record for sample in samples for record in sample.records],
        encoding=min(odd) if odd else first.encoding,
    )


def _layout_like(file: str, layout: Layout) -> Layout:
    """Return the layout of another file of the same table; that file may have another header."""
    other = sniff(file, None)
    if layout.format != "csv" or other.format != "csv":
        return other
    names = other.names if layout.header else layout.names
    return replace(layout, compression=other.compression, encoding=other.encoding, names=names)


def _folders(file: str) -> dict[str, str | None]:
    """Return the columns whose values stand in the names of folders, such as `event_type=view/`."""
    keys = [part.partition("=")[0] for part in file.split("/")[:-1] if "=" in part]
    return folder_columns("events", file, dict.fromkeys(keys, ()))


def _choose_rows(
    findings: TableFindings, sample: Sample, section: TableInput, null_words: Sequence[str]
) -> tuple[Sample, Guess]:
    """Return the rows and what they seem to be. If the items stand in a list, the list is exploded first."""
    decimal = findings.layout.decimal
    findings.columns = describe(sample.rows, null_words, decimal)
    guess = recognise(findings.columns, findings.table)
    if section.explode is not None or _has_items(guess, findings.columns, section):
        return sample, guess
    if not sample.records:
        sample = with_written_lists(sample, [c.name for c in findings.columns.values() if c.kind == "list"])
    best = None
    few = replace(sample, records=sample.records[:300])
    for path in lists_of(few.records):
        rows = exploded(few, path).rows
        columns = describe(rows, null_words, decimal)
        other = recognise(columns, findings.table)
        if _has_items(other, columns, section) and other.mapping["item_id"].startswith(path):
            known = len(missing("events", other.mapping))
            best = min(best or (known, path), (known, path))
    if best is None:
        return sample, guess
    findings.write("explode", best[1], f"the items stand in the list {best[1]!r}")
    sample = exploded(sample, best[1])
    findings.columns = describe(sample.rows, null_words, decimal)
    return sample, recognise(findings.columns, findings.table)


def _has_items(guess: Guess, columns: Mapping[str, Column], section: TableInput) -> bool:
    if "item_id" in section.columns:
        return True
    own = guess.mapping.get("item_id")
    return own is not None and columns[own].nulls <= 0.7 * columns[own].n


def _names_items(findings: TableFindings, section: TableInput) -> bool:
    """Return whether the configuration names the column of the items, and all columns that it names are there."""
    names = {*findings.columns, "#", "#row"}
    parts = [part for own in section.columns.values() for part in ((own,) if isinstance(own, str) else own)]
    return "item_id" in section.columns and names.issuperset(parts)


def _settle_encoding(findings: TableFindings, encoding: str) -> None:
    findings.input_settings["encoding"] = encoding
    message = f"{findings.files[0]} is not UTF-8, but seems to be {encoding}"
    findings.comments["encoding"] = message
    findings.faults.append(Fault(message, f"[input] encoding = {toml_value(encoding)}", cause="encoding"))
