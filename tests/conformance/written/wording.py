"""What the four dialects share when a test speaks them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import CacheMark, Request, Sampling
from providers.protocols.codec import ClientCall


class Unsayable(Exception):
    """The dialect has no word for it: the reason stands in the matrix."""


@dataclass(frozen=True, slots=True)
class Written:
    body: JSONDict
    call: ClientCall = field(default_factory=ClientCall)


def refuse(condition: object, reason: str) -> None:
    if condition:
        raise Unsayable(reason)


def refuse_fields(request: Request, reasons: dict[str, str]) -> None:
    """Fields of the request (`sampling.seed`, `store`) that must keep their defaults."""
    for path, reason in reasons.items():
        name, _, inner = path.partition(".")
        value = getattr(request, name)
        default: Any = getattr(Request(model="", dialect=""), name)
        if inner:
            value = getattr(value, inner)
            default = getattr(Sampling() if name == "sampling" else default, inner)
        refuse(value != default, reason)


def set_given(body: JSONDict, **fields: Any) -> None:
    body.update({name: value for name, value in fields.items() if value is not None})


def mark(block: JSONDict, cache: CacheMark | None) -> JSONDict:
    """Anthropic's cache mark, which Chat Completions clients send too."""
    if cache is not None:
        wish: JSONDict = {"type": "ephemeral"}
        set_given(wish, ttl=cache.ttl)
        block["cache_control"] = wish
    return block
