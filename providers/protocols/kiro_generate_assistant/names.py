"""Tool names on Kiro's wire."""

from __future__ import annotations

from typing import Final

import msgspec

from providers.protocols.canonical import Tool
from providers.protocols.codec import Restore
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import WireNames

SLUG: Final = "kiro-generate-assistant"
# The backend takes a tool of this name for its own.
_RESERVED: Final = {"web_search": "remote_web_search"}


class KiroNames(WireNames):
    def __init__(self, tools: tuple[Tool, ...]) -> None:
        declared = {tool.name for tool in tools if tool.namespace is None}
        # If the client has a tool of the other name too, there is nothing left to rename to.
        self._reserved = {
            name: wire
            for name, wire in _RESERVED.items()
            if name in declared and wire not in declared
        }
        super().__init__(tools)

    def wire(self, name: str, namespace: str | None = None) -> str:
        if namespace is None and name in self._reserved:
            return self._reserved[name]
        return super().wire(name, namespace)

    def restore(self) -> Restore:
        restore = super().restore()
        if not self._reserved:
            return restore
        back = {wire: name for name, wire in self._reserved.items()}
        return msgspec.structs.replace(restore, names={**restore.names, **back})

    def report(self, losses: list[Loss]) -> None:
        super().report(losses)
        for name, wire in self._reserved.items():
            losses.append(Loss("tools", LossCode.RENAMED, f"{name!r} is sent as {wire!r}"))
