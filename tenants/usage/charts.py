"""Money per day as the bars of an SVG drawing, with what they say for who cannot see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from tenants.quotas.models import shown

HEIGHT: Final = 120
_STEP: Final = 20
# Whatever was charged is seen, however little it was beside the rest.
_LEAST: Final = 2


@dataclass(frozen=True, slots=True)
class Bar:
    x: int
    y: int
    height: int
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    width: int
    total: str
    most: str
    first: str
    last: str


def money(nanos: int | None) -> str:
    return "unknown" if nanos is None else shown("money", nanos)


def chart_of(first: date, amounts: Sequence[int]) -> Chart:
    """One bar a day, in nano-dollars. Days with refunds alone have none."""
    most = max(amounts)
    days = [first + timedelta(days=number) for number in range(len(amounts))]
    bars = []
    for number, (day, amount) in enumerate(zip(days, amounts, strict=True)):
        height = max(_LEAST, round(amount * HEIGHT / most)) if amount > 0 else 0
        bars.append(Bar(number * _STEP, HEIGHT - height, height, f"{day:%d %b}: {money(amount)}"))
    return Chart(
        bars=tuple(bars),
        width=len(days) * _STEP,
        total=money(sum(amounts)),
        most=money(most),
        first=f"{days[0]:%d %b}",
        last=f"{days[-1]:%d %b}",
    )
