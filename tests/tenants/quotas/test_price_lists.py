"""Which agreed price holds for a model at a moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenants.quotas.price_lists import in_force, read

JANUARY, JULY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)


def row(model: str, begins: datetime, amount: str) -> dict[str, object]:
    price = {"output": amount, "input": amount}
    return {"model": model, "effective_from": begins.isoformat(), "price": price}


LISTED = read(
    [
        row("*", JANUARY, "9"),
        row("gpt-*", JANUARY, "5"),
        row("gpt-*", JULY, "4"),
        row("gpt-5", JULY, "3"),
        row("gpt-5-*", JULY, "2"),
    ]
)


@pytest.mark.parametrize(
    ("model", "at", "amount"),
    [
        ("gpt-5", datetime(2025, 12, 31, tzinfo=UTC), None),
        ("claude", JANUARY, "9"),
        ("gpt-5", JANUARY, "5"),
        ("gpt-4", JULY, "4"),
        ("gpt-5", JULY, "3"),
        ("gpt-5-mini", JULY, "2"),
        ("GPT-5", JULY, "9"),
        ("", JULY, "9"),
    ],
)
def test_the_nearest_name_and_the_latest_moment(
    model: str, at: datetime, amount: str | None
) -> None:
    found = in_force(LISTED, model, at.timestamp())
    assert (None if found is None else found.price) == (
        None if amount is None else f'{{"input":"{amount}","output":"{amount}"}}'
    )


def test_equal_prices_have_equal_versions() -> None:
    one, other = read([row("a", JANUARY, "1"), row("b", JULY, "1")])
    assert one.version == other.version
    (third,) = read([row("a", JANUARY, "2")])
    assert third.version != one.version


def test_nothing_agreed_is_nothing() -> None:
    assert in_force(read([]), "gpt-5", JULY.timestamp()) is None
