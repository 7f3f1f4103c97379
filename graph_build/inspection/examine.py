"""Examines one table: what its files are, what to write so that they are read, and what is then still wrong.

Each step corrects what it finds and goes on, so that one fault does not hide the next.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from graph_build.config import EventsInput, InputConfig, TableInput
from graph_build.errors import GraphInputError
from graph_build.ingest.contract import REQUIRED, TYPES, Table, column_kinds, is_text
from graph_build.ingest.folders import folder_columns
from graph_build.ingest.refusals import ANY_OTHER
from graph_build.inspection.columns import Column, describe, is_basic_date, time_unit
from graph_build.inspection.facts import count_ids, suggested_zone, time_facts
from graph_build.inspection.files import size_of
from graph_build.inspection.findings import Fault, TableFindings
from graph_build.inspection.layout import Layout, sniff
from graph_build.inspection.recognise import Guess, is_basket, known_share, missing, recognise, type_of_rows
from graph_build.inspection.row_faults import ALMOST_ALL, ContractRows, row_faults
from graph_build.inspection.sample import Sample, exploded, lists_of, read_sample, with_written_lists
from graph_build.inspection.vocabulary import event_type

_SAMPLED_FILES = 3
_ENDS = {
    "csv": (".csv", ".tsv", ".txt", ".tab"),
    "json": (".json", ".jsonl", ".ndjson"),
}
_TABS = (".tsv", ".tab")
_LEVELS = ("|", "/", ".", ":", " - ")
_MIN_LEVELS = 0.5
_SHOWN_TYPES = 8


_WEB_LOG = (
    "it is the log of a web server, and its configuration must say where in a page's path the item stands: "
    "--recipe weblog reads /product/ITEM"
)


def examine(
    table: Table | None, paths: Sequence[str], files: Sequence[str], config: InputConfig, layout: Layout | None = None
) -> TableFindings:
    """Return what a table is, what to write about it, and what is wrong with it.

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
    _settle_layout(findings, section)
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
        sample, guess = _named(findings, sample, guess)
    _settle_columns(findings, guess, section)
    if findings.table == "events":
        _settle_types(findings, config.events, config.max_bad_share)
    _settle_times(findings, section)
    _settle_decimal(findings, section)
    if findings.table == "items":
        _settle_levels(findings, section)
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
    """Return the settings of a table, with what is to be written added to what is configured.

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


def _settle_layout(findings: TableFindings, section: TableInput) -> None:
    """Note how the files are written where the configuration, and the names of the files, say otherwise."""
    actual, file = findings.layout, findings.files[0]
    name = file.lower().removesuffix(".gz").removesuffix(".zst")
    by_name = next((kind for kind, ends in _ENDS.items() if name.endswith(ends)), "parquet")
    if actual.format == "csv" and by_name == "parquet" and section.format is None and len(actual.names) < 2:
        raise GraphInputError(f"{file}: this is neither parquet nor a table of text")
    if actual.format != (section.format or by_name):
        _write(findings, "format", actual.format, f"{file} is {_FORMATS[actual.format]}")
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
        _write(findings, "separator", actual.separator, f"the values of {file} are separated by {actual.separator!r}")
    if actual.quote != section.quote:
        _write(findings, "quote", actual.quote, f"the values of {file} stand in other quotes than '\"', or in none")
    if section.names:
        findings.layout = replace(actual, names=section.names, header=section.header)
    elif not actual.header and section.header:
        message = f"{file} has no header: its first line is {', '.join(_first_cells(file, actual))}"
        _write(findings, "header", False, message)
        findings.settings["names"] = list(actual.names)


_FORMATS = {"csv": "CSV", "json": "JSON, one object a line", "weblog": "the log of a web server", "parquet": "parquet"}


def _has_needed(layout: Layout, section: TableInput, table: Table | None) -> bool:
    """Return whether a file has all needed columns if it is written so."""
    needed = [section.columns.get(name, name) for name in REQUIRED[table or "events"] if name not in section.constants]
    if table in (None, "events"):  # either will do
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


def _write(findings: TableFindings, key: str, value: Any, message: str, *, stops: bool = True) -> None:
    """Note that a key of the table must be written, and why."""
    findings.settings[key] = value
    findings.comments[key] = message
    line = f"[input.{findings.table or 'events'}] {key} = {toml_value(value)}"
    findings.faults.append(Fault(message, line, stops=stops, cause=key))


def toml_value(value: Any) -> str:
    """Return a value as TOML.

    Args:
        value: text, a number, true or false, a list of them, or a dict of them.

    >>> toml_value({"a": ["b", True]})
    '{ a = ["b", true] }'
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def toml_key(key: str) -> str:
    """Return a key as TOML, in quotes where it needs them."""
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else json.dumps(key, ensure_ascii=False)


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
    """Return the layout of another file of a table; its header may differ."""
    other = sniff(file, None)
    if layout.format != "csv" or other.format != "csv":
        return other
    names = other.names if layout.header else layout.names
    return replace(layout, compression=other.compression, encoding=other.encoding, names=names)


def _folders(file: str) -> dict[str, str | None]:
    """Return the columns that the names of folders hold, such as `event_type=view/`."""
    keys = [part.partition("=")[0] for part in file.split("/")[:-1] if "=" in part]
    return folder_columns("events", file, dict.fromkeys(keys, ()))


def _choose_rows(
    findings: TableFindings, sample: Sample, section: TableInput, null_words: Sequence[str]
) -> tuple[Sample, Guess]:
    """Return the rows, after a list is exploded where the items stand in one, and what they seem to be."""
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
    _write(findings, "explode", best[1], f"the items stand in the list {best[1]!r}")
    sample = exploded(sample, best[1])
    findings.columns = describe(sample.rows, null_words, decimal)
    return sample, recognise(findings.columns, findings.table)


def _has_items(guess: Guess, columns: Mapping[str, Column], section: TableInput) -> bool:
    if "item_id" in section.columns:
        return True
    own = guess.mapping.get("item_id")
    return own is not None and columns[own].nulls <= 0.7 * columns[own].n


def _names_items(findings: TableFindings, section: TableInput) -> bool:
    """Return whether the configuration says which column holds the items, and all that it names are there."""
    names = {*findings.columns, "#", "#row"}
    parts = [part for own in section.columns.values() for part in ((own,) if isinstance(own, str) else own)]
    return "item_id" in section.columns and names.issuperset(parts)


def _settle_encoding(findings: TableFindings, encoding: str) -> None:
    findings.input_settings["encoding"] = encoding
    message = f"{findings.files[0]} is not UTF-8, but seems to be {encoding}"
    findings.comments["encoding"] = message
    findings.faults.append(Fault(message, f"[input] encoding = {toml_value(encoding)}", cause="encoding"))


def _settle_columns(findings: TableFindings, guess: Guess, section: TableInput) -> None:
    """Map the contract's columns: as configured, else those of the same name, else as they seem to be."""
    assert findings.table is not None
    constants = section.constants
    names = set(findings.columns) | {"#", "#row"}
    mapping = {
        name: own
        for name, own in section.columns.items()
        if all(part in names for part in ([own] if isinstance(own, str) else own))
    }
    # What has the contract's name is read under it, whatever its values look like.
    mapping |= {name: name for name in column_kinds(findings.table) if name not in section.columns and name in names}
    taken = {own for own in mapping.values() if isinstance(own, str)}
    suggested: dict[str, str] = {}
    needed = {*REQUIRED[findings.table], "session_id", "user_id"}
    for name, own in guess.mapping.items():
        if name in mapping or name in constants or own in taken or (name in section.columns and name not in mapping):
            continue
        if section.columns and name not in needed:  # who has mapped columns has chosen the optional ones
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
    suggested: dict[str, str | tuple[str, ...]] | dict[str, str],
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
        columns_text = (
            f"{seems!r} seems to hold it" if seems else f"found the columns {', '.join(findings.columns) or 'none'}"
        )
        message = f"{file}: {table} need a column {own!r}; {columns_text}"
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


def _join_date_and_time(findings: TableFindings, suggested: dict[str, str]) -> None:
    """Join a column of dates with one of times of day."""
    own = findings.mapping.get("timestamp")
    if not isinstance(own, str) or own not in findings.columns:
        return
    if findings.columns[own].kind != "date" and not is_basic_date(findings.columns[own]):
        return
    clock = next((column.name for column in findings.columns.values() if _is_clock(column)), None)
    if clock is not None:
        findings.mapping["timestamp"] = (own, clock)
        suggested["timestamp"] = [own, clock]  # type: ignore[assignment]


def _is_clock(column: Column) -> bool:
    if column.kind != "text" or not is_text(column.values.type):
        return False
    matches = pc.match_substring_regex(column.values.drop_null(), r"^\d{1,2}:\d{2}(:\d{2})?([.,]\d+)?$")
    return bool(pc.all(matches).as_py())


def _named(findings: TableFindings, sample: Sample, guess: Guess) -> tuple[Sample, Guess]:
    """Give the columns of files without a header the names of the contract, so that none is to be mapped."""
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


def _settle_types(findings: TableFindings, section: EventsInput, max_bad_share: float) -> None:
    """Say what each word for a type of event means."""
    own = findings.mapping.get("event_type")
    column = findings.columns.get(own) if isinstance(own, str) else None
    counts = column.counts() if column is not None else {}
    constants = {**section.constants, **findings.settings.get("constants", {})}
    if (constant := constants.get("event_type")) is not None:
        without = column.nulls if column is not None else findings.n_sampled
        counts[str(constant)] = counts.get(str(constant), 0) + without
    findings.event_types = {word: n for word, n in counts.items() if n}
    configured = {word.lower(): kind for word, kind in section.types.items()}
    any_other = section.types.get(ANY_OTHER, "")
    any_known = column is not None and known_share(column) > 0
    for word in findings.event_types:
        if word.lower() in configured:
            findings.meanings[word] = configured[word.lower()]
        elif word.lower() in TYPES:
            findings.meanings[word] = word.lower()
        else:
            findings.meanings[word] = any_other or event_type(word) or ("ignore" if any_known else "")
    new = {
        word: kind
        for word, kind in findings.meanings.items()
        if kind and not any_other and word.lower() not in TYPES and word.lower() not in configured
    }
    if not new:
        return
    findings.settings["types"] = new
    total = sum(findings.event_types.values())
    n = sum(findings.event_types[word] for word in new)
    words = sorted(new, key=lambda word: -findings.event_types[word])
    named = ", ".join(f"{word!r}: {findings.event_types[word]:,}" for word in words[:_SHOWN_TYPES])
    more = f" and {len(words) - _SHOWN_TYPES} more" if len(words) > _SHOWN_TYPES else ""
    lines = ", ".join(f"{toml_value(word)} = {toml_value(new[word])}" for word in words[:_SHOWN_TYPES])
    message = (
        f"{findings.files[0]}: {n:,} of {total:,} events{_in_sample(findings)} are of types that have other names here "
        f"({named}{more})"
    )
    stops = n > (max_bad_share if findings.is_all else max(max_bad_share, ALMOST_ALL)) * total
    findings.faults.append(Fault(message, f"[input.events.types] {lines}", stops=stops, cause="types"))


def _in_sample(findings: TableFindings) -> str:
    return "" if findings.is_all else " in the sample"


def _settle_times(findings: TableFindings, section: TableInput) -> None:
    """Note the unit of times that are whole numbers."""
    own = findings.mapping.get("timestamp")
    column = findings.columns.get(own) if isinstance(own, str) else None
    if column is None or not isinstance(section, EventsInput) or section.timestamp_unit is not None:
        return
    unit = None if is_basic_date(column) else time_unit(column)
    if unit is not None:
        example = next((text for text in column.examples if text.lstrip("-").isdigit()), column.examples[0])
        message = f"{findings.files[0]}: the times in column {own!r} are whole numbers, e.g. {example}"
        _write(findings, "timestamp_unit", unit, message)
    elif column.kind in ("whole number", "number") and not is_basic_date(column):
        message = f"{findings.files[0]}: column {own!r} holds numbers that are no times, e.g. {column.examples[0]}"
        _write(findings, "timestamp_unit", "order", f"{message}; if they only tell the order of events, say so")


def _settle_decimal(findings: TableFindings, section: TableInput) -> None:
    """Note a decimal comma where a column that is read has one."""
    if findings.layout.decimal == section.decimal or "decimal" in section.model_fields_set:
        return
    own = findings.mapping.get("price") or findings.mapping.get("bid")
    if isinstance(own, str) and findings.columns[own].kind == "number":
        message = f"the numbers of {findings.files[0]} have a decimal comma"
        _write(findings, "decimal", findings.layout.decimal, message, stops=False)


def _settle_levels(findings: TableFindings, section: TableInput) -> None:
    """Note what separates the levels of categories."""
    own = findings.mapping.get("category")
    column = findings.columns.get(own) if isinstance(own, str) else None
    if column is None or column.kind != "text" or getattr(section, "category_separator", None):
        return
    texts = [text for text in column.counts() if text][:1000]
    for separator in _LEVELS:
        with_separator = [text for text in texts if separator in text.strip(separator) and " > " not in text]
        if separator == "." and any(
            not part.replace("_", "").isalpha() for text in with_separator for part in text.split(".")
        ):
            continue
        if texts and len(with_separator) >= _MIN_LEVELS * len(texts):
            findings.settings["category_separator"] = separator
            findings.comments["category_separator"] = f"the levels of {own!r}, e.g. {with_separator[0]!r}"
            return


def basket_note(findings: TableFindings) -> str | None:
    """Return a note if the session is what is bought together; None if it is not."""
    own = findings.mapping.get("session_id")
    return f"{own!r} is read as the session: one basket each" if isinstance(own, str) and is_basket(own) else None
