"""The records of a log as plain values that can be compared."""

from typing import Any

from retrieval.live.recorded import Changes, Subjects


def contents(changes: Changes) -> dict[str, Any]:
    """Return the newest version, sequence and value of every field of every ad and campaign."""

    def recorded(subjects: Subjects) -> dict[str, dict[str, Any]]:
        values: dict[str, dict[str, Any]] = {name: {} for name in subjects.row_of}
        for field_name, field in subjects.fields():
            column = changes.codes.column(field_name, field.code).to_pylist()
            for name, row in subjects.row_of.items():
                if field.version[row] >= 0:
                    values[name][field_name] = (int(field.version[row]), int(field.sequence[row]), column[row])
        return values

    return {
        "sequence": changes.sequence,
        "ads": recorded(changes.ads),
        "campaigns": recorded(changes.campaigns),
    }
