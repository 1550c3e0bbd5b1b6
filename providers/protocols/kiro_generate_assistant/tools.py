"""Tool declarations in the current message, and in words what has no field."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.anthropic_messages.tools import object_schema
from providers.protocols.canonical import Request, Tool
from providers.protocols.errors import UnsupportedContent
from providers.protocols.kiro_generate_assistant.names import SLUG, KiroNames
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    NO_TOOLS,
    custom_description,
    report_parallel,
    unique_tools,
)

MAX_DESCRIPTION_BYTES: Final = 10_240


class ToolWriter:
    def __init__(self, request: Request, names: KiroNames, losses: list[Loss]) -> None:
        self._request = request
        self._names = names
        self._losses = losses
        self.long_descriptions: list[str] = []

    def declared(self, used: dict[str, None]) -> list[JSONDict]:
        choice = self._request.tool_choice
        if choice is not None and choice.mode == "none" and not used:
            return []
        only: frozenset[str] | None = None
        if choice is not None and choice.mode == "allowed":
            only = frozenset(choice.names)
        out = [
            self._specification(tool, index)
            for index, tool in unique_tools(self._request, self._losses)
            if only is None or tool.name in only
        ]
        if used and not out:
            # A history with calls and no tools is "improperly formed".
            out = [_described(name, f"The tool {name}.", _ANY_OBJECT) for name in used]
            self._losses.append(
                Loss("tools", LossCode.SYNTHESISED, "tools that only the history knows")
            )
        return out

    def hint(self) -> str:
        """Tool choice and parallel calls, said to the model."""
        choice = self._request.tool_choice
        hints: list[str] = []
        if choice is not None:
            mode = choice.allowed_mode if choice.mode == "allowed" else choice.mode
            if choice.mode == "allowed":
                self._lose("tool_choice", "only the allowed tools are declared")
            if mode == "required":
                hints.append("You must call at least one of the tools now.")
            elif mode == "named":
                hints.append(f"You must call the tool {self._names.wire(choice.names[0])} now.")
            elif mode == "none":
                hints.append("Do not call any tool now; answer in text.")
            if hints:
                self._lose("tool_choice", "said to the model, not enforced")
        if not self._request.tools:
            report_parallel(self._request, self._losses, NO_TOOLS)
        elif self._request.parallel_tool_calls is False:
            hints.append("Call at most one tool at a time.")
            self._lose("parallel_tool_calls", "said to the model, not enforced")
        return " ".join(hints)

    def _specification(self, tool: Tool, index: int) -> JSONDict:
        path = f"tools[{index}]"
        if tool.kind == "builtin":
            raise UnsupportedContent(
                f"{SLUG} has no equivalent of the built-in tool {tool.name!r} ({path}).",
                param=path,
            )
        name = self._names.wire(tool.name, tool.namespace)
        for key in tool.extra:
            self._losses.append(Loss(f"{path}.{key}", LossCode.DROPPED, "unknown to this protocol"))
        if tool.strict:
            self._losses.append(
                Loss(f"{path}.strict", LossCode.DROPPED, "unknown to this protocol")
            )
        if tool.cache is not None:
            self._losses.append(
                Loss(f"{path}.cache", LossCode.DROPPED, "this protocol has no cache marks")
            )
        if tool.kind == "custom":
            self._lose(path, "a free-text tool, as a function")
            description, schema = custom_description(tool), CUSTOM_SCHEMA
        else:
            description = (tool.description or "").strip() or f"The tool {name}."
            schema = object_schema(tool.schema, f"{path}.schema", self._losses)
        if len(description.encode("utf-8", "replace")) > MAX_DESCRIPTION_BYTES:
            self.long_descriptions.append(f"Description of the tool {name}:\n{description}")
            self._losses.append(
                Loss(f"{path}.description", LossCode.MOVED, "too long for its field, to the prompt")
            )
            description = f"The description of {name} is in the system prompt."
        return _described(name, description, schema)

    def _lose(self, path: str, why: str) -> None:
        self._losses.append(Loss(path, LossCode.EMULATED, why))


_ANY_OBJECT: Final[JSONDict] = {"type": "object", "properties": {}}


def _described(name: str, description: str, schema: JSONDict) -> JSONDict:
    return {
        "toolSpecification": {
            "name": name,
            "description": description,
            "inputSchema": {"json": schema},
        }
    }
