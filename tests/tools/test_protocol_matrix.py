"""The page of docs is what the golden files say."""

from __future__ import annotations

from tools import protocol_matrix


def test_the_matrix_is_fresh() -> None:
    assert protocol_matrix.PAGE.read_text() == protocol_matrix.page(), "run `make docs`"


def test_every_cell_is_counted_once() -> None:
    """All scenarios that a dialect can say are somewhere in its table."""
    for dialect in protocol_matrix.DIALECTS:
        for group in protocol_matrix.GROUPS:
            asked = protocol_matrix.read(dialect, f"asked-{group}").values()
            sayable = sum("body" in row for row in asked)
            for upstream in protocol_matrix.upstreams():
                assert sum(protocol_matrix.counts(upstream, group, dialect).values()) == sayable
