"""What an installed protocol brings along, so that the project's own suite can judge it."""

from __future__ import annotations

from dataclasses import dataclass

from providers.protocols.canonical import ModelSpec
from providers.simulator.wire import Wire


@dataclass(frozen=True, slots=True)
class Played:
    """The attribute `played` of a protocol's CODEC. `model` is what a catalog would say of a
    flagship, and `wires` its vendor, written from the vendor's rules and not with the codec.
    `base_path` is what stands before a call's path. `like` names the protocol of ours whose wire
    leaves the same unsaid; empty = this one can say everything."""

    model: ModelSpec
    wires: tuple[Wire, ...]
    base_path: str = ""
    like: str = ""
