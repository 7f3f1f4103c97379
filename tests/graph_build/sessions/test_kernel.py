"""The kernel's numbers of event types are those of the contract."""

from graph_build.ingest.contract import SESSION_TYPES
from graph_build.sessions import kernel


def test_the_number_of_an_event_type_is_its_position_in_the_contract() -> None:
    assert [getattr(kernel, name.upper()) for name in SESSION_TYPES] == list(range(len(SESSION_TYPES)))
