"""The overview: cards and next steps. A concept adds its own from its admin.py:

@dashboard.card(order=20)
def keys(request: HttpRequest) -> Card: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from django.http import HttpRequest

from controlplane.kit.badges import Badge


@dataclass(frozen=True, slots=True)
class Card:
    """One figure and what it means. `badges` say what needs somebody; `url` leads there."""

    title: str
    figure: str
    note: str = ""
    url: str = ""
    icon: str = ""
    badges: tuple[Badge, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do next. Shown until `is_done`."""

    title: str
    text: str
    url: str
    label: str
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list on the overview."""

    when: object
    what: str
    who: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    title: str
    lines: tuple[Line, ...]
    empty: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    cards: list[Card] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)

    @property
    def open_steps(self) -> list[Step]:
        return [step for step in self.steps if not step.is_done]


T = TypeVar("T")
_Made = Callable[[HttpRequest], T]

_cards: list[tuple[int, _Made[Card]]] = []
_steps: list[tuple[int, _Made[Step]]] = []
_feeds: list[tuple[int, _Made[Feed]]] = []


def card(*, order: int) -> Callable[[_Made[Card]], _Made[Card]]:
    return _into(_cards, order)


def step(*, order: int) -> Callable[[_Made[Step]], _Made[Step]]:
    return _into(_steps, order)


def feed(*, order: int) -> Callable[[_Made[Feed]], _Made[Feed]]:
    return _into(_feeds, order)


def _into(place: list[tuple[int, _Made[T]]], order: int) -> Callable[[_Made[T]], _Made[T]]:
    def add(make: _Made[T]) -> _Made[T]:
        place.append((order, make))
        return make

    return add


def overview(request: HttpRequest) -> Overview:
    return Overview(
        cards=list(_make(_cards, request)),
        steps=list(_make(_steps, request)),
        feeds=list(_make(_feeds, request)),
    )


def _make(place: list[tuple[int, _Made[T]]], request: HttpRequest) -> Iterator[T]:
    for _, make in sorted(place, key=lambda entry: entry[0]):
        yield make(request)
