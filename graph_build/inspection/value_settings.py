"""Finds the settings for what values mean: types of events, units of times, decimal marks, levels of categories."""

from graph_build.config import EventsInput, TableInput
from graph_build.ingest.contract import TYPES
from graph_build.ingest.refusals import ANY_OTHER
from graph_build.inspection.columns import is_basic_date, time_unit
from graph_build.inspection.findings import Fault, TableFindings
from graph_build.inspection.recognise import known_share
from graph_build.inspection.row_faults import ALMOST_ALL
from graph_build.inspection.toml_text import toml_value
from graph_build.inspection.vocabulary import event_type

_LEVELS = ("|", "/", ".", ":", " - ")
_MIN_LEVELS = 0.5
_SHOWN_TYPES = 8


def settle_types(findings: TableFindings, section: EventsInput, max_bad_share: float) -> None:
    """Note what each word for a type of event means.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        section: the settings of the table that are configured already.
        max_bad_share: the largest share of bad rows with which a build goes on.
    """
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


def settle_times(findings: TableFindings, section: TableInput) -> None:
    """Note the unit of times that are numbers.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        section: the settings of the table that are configured already.
    """
    column = findings.read_as("timestamp")
    if column is None or not isinstance(section, EventsInput) or section.timestamp_unit is not None:
        return
    unit = None if is_basic_date(column) else time_unit(column)
    if unit is not None:
        example = next((text for text in column.examples if text.lstrip("-")[:1].isdigit()), column.examples[0])
        message = f"{findings.files[0]}: the times in column {column.name!r} are numbers, e.g. {example}"
        findings.write("timestamp_unit", unit, message)
    elif column.kind in ("whole number", "number") and not is_basic_date(column):
        example = column.examples[0]
        message = f"{findings.files[0]}: column {column.name!r} holds numbers that are no times, e.g. {example}"
        findings.write("timestamp_unit", "order", f"{message}; if they only tell the order of events, say so")


def settle_decimal(findings: TableFindings, section: TableInput) -> None:
    """Note a decimal comma where the column of the price or of the bid has one.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        section: the settings of the table that are configured already.
    """
    if findings.layout.decimal == section.decimal or "decimal" in section.model_fields_set:
        return
    own = findings.mapping.get("price") or findings.mapping.get("bid")
    if isinstance(own, str) and findings.columns[own].kind == "number":
        message = f"the numbers of {findings.files[0]} have a decimal comma"
        findings.write("decimal", findings.layout.decimal, message, stops=False)


def settle_levels(findings: TableFindings, section: TableInput) -> None:
    """Note what separates the levels of categories.

    Args:
        findings: what is known of the table; the settings to write and the faults are added to it.
        section: the settings of the table that are configured already.
    """
    column = findings.read_as("category")
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
            findings.comments["category_separator"] = f"the levels of {column.name!r}, e.g. {with_separator[0]!r}"
            return
