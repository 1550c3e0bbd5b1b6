"""Tool names and arguments on wires that know only functions with an object argument.

Anthropic, Bedrock and Kiro have neither namespaces nor free-text tools: names are qualified,
free text travels in one string property, and both are restored on the way back.
"""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str
from providers.protocols.canonical import Request, Tool, ToolCall
from providers.protocols.codec import Restore
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import SAFE, NameMap, digest
from providers.protocols.nesting import loads_shallow

# The one property that carries a custom tool's free text.
CUSTOM_PROPERTY: Final = "input"
CUSTOM_SCHEMA: Final[JSONDict] = {
    "type": "object",
    "properties": {CUSTOM_PROPERTY: {"type": "string"}},
    "required": [CUSTOM_PROPERTY],
    "additionalProperties": False,
}
# Where a wire wants an object and the history holds something else. The vendor's own advice for
# malformed arguments: show them to the model as what they are.
INVALID_KEY: Final = "INVALID_JSON"
NO_TOOLS: Final = "there are no tools"


class WireNames:
    """The one map for declarations, tool choice, history and answers of a request (trap 67)."""

    def __init__(
        self, tools: tuple[Tool, ...], *, limit: int = 64, allowed: re.Pattern[str] = SAFE
    ) -> None:
        named = [tool for tool in tools if tool.kind != "builtin"]
        direct = [tool.name for tool in named if tool.namespace is None]
        self._direct = frozenset(direct)
        self._namespaces: dict[str, tuple[str, str]] = {}
        self._custom: set[str] = set()
        # Direct names first: they win a collision with a qualified one (trap 69).
        self._map = NameMap(direct, limit=limit, allowed=allowed)
        for tool in named:
            if tool.namespace is None and tool.kind == "function":
                continue  # in the map already, and restored by it
            wire = self.wire(tool.name, tool.namespace)
            if tool.kind == "custom":
                self._custom.add(wire)

    def wire(self, name: str, namespace: str | None = None) -> str:
        if namespace is None:
            return self._map.wire(name)
        qualified = f"{namespace}__{name}"
        if qualified in self._direct:
            qualified = f"{qualified}_{digest(qualified, 8)}"
        wire = self._map.wire(qualified)
        self._namespaces[wire] = (namespace, name)
        return wire

    def restore(self) -> Restore:
        names = {
            wire: name for wire, name in self._map.restore().items() if wire not in self._namespaces
        }
        return Restore(
            names=names, custom=frozenset(self._custom), namespaces=dict(self._namespaces)
        )

    def report(self, losses: list[Loss]) -> None:
        for wire, name in self._map.restore().items():
            losses.append(Loss("tools", LossCode.RENAMED, f"{name!r} is sent as {wire!r}"))
        for wire, (namespace, name) in self._namespaces.items():
            losses.append(
                Loss("tools", LossCode.RENAMED, f"{namespace}.{name} is sent as {wire!r}")
            )


def unique_tools(request: Request, losses: list[Loss]) -> list[tuple[int, Tool]]:
    """Declarations with their index, of several with one name the first (trap 68)."""
    seen: set[tuple[str | None, str]] = set()
    out: list[tuple[int, Tool]] = []
    for index, tool in enumerate(request.tools):
        key = (tool.namespace, tool.name)
        if key in seen and tool.kind != "builtin":
            losses.append(
                Loss(f"tools[{index}]", LossCode.DROPPED, f"{tool.name!r} is declared twice")
            )
            continue
        seen.add(key)
        out.append((index, tool))
    return out


def custom_description(tool: Tool) -> str:
    """What a function that stands in for a free-text tool must tell the model."""
    text = tool.description or ""
    if tool.grammar:
        text += f"\n\nThe property `input` must follow this grammar: {dumps_str(tool.grammar)}"
    return text.strip() or "Takes free text in the property `input`."


def arguments_object(call: ToolCall, losses: list[Loss]) -> JSONDict:
    """A call's arguments where the wire wants an object (traps 45, 46).

    Arguments that are no object are wrapped, never dropped or repaired.
    """
    if call.kind == "custom":
        return {CUSTOM_PROPERTY: call.arguments}
    text = call.arguments
    if not text or text.isspace():
        return {}
    try:
        value: Any = loads_shallow(text)
    except InvalidJSON:
        value = text
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    losses.append(
        Loss("messages", LossCode.EMULATED, f"the arguments of call {call.id!r} are no JSON object")
    )
    return {INVALID_KEY: text}


def report_parallel(request: Request, losses: list[Loss], why: str) -> None:
    """For wires, or requests, that cannot forbid parallel calls. Allowing them is the default of
    every vendor: nothing is lost when only that is left out."""
    if request.parallel_tool_calls is False:
        losses.append(Loss("parallel_tool_calls", LossCode.DROPPED, why))


def called(restore: Restore, wire_name: str, call_id: str) -> ToolCall:
    """The skeleton of a call as the client knows the tool."""
    namespace, name = restore.namespaces.get(wire_name, (None, None))
    return ToolCall(
        id=restore.call_ids.get(call_id, call_id),
        name=name or restore.names.get(wire_name, wire_name),
        arguments="",
        kind="custom" if wire_name in restore.custom else "function",
        namespace=namespace,
    )


def custom_text(arguments: str) -> str:
    """The free text of a custom tool from the arguments of its stand-in (trap 70)."""
    try:
        value = loads_shallow(arguments)
    except InvalidJSON:
        return arguments
    if isinstance(value, dict) and isinstance(value.get(CUSTOM_PROPERTY), str):
        return str(value[CUSTOM_PROPERTY])
    return arguments
