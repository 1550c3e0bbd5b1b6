"""toolConfig: declarations and choice."""

from __future__ import annotations

from controlplane.kit.json import JSONDict
from providers.protocols.anthropic_messages.tools import object_schema, strict_problem
from providers.protocols.bedrock_converse_stream.content import SLUG
from providers.protocols.canonical import CacheMark, ModelSpec, Request, Tool
from providers.protocols.errors import UnsupportedContent
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import (
    CUSTOM_SCHEMA,
    WireNames,
    custom_description,
    report_parallel,
    unique_tools,
)


class ToolWriter:
    def __init__(
        self, request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
    ) -> None:
        self._request = request
        self._model = model
        self._names = names
        self._losses = losses
        self.marked: list[tuple[list[JSONDict], JSONDict, CacheMark]] = []

    def config(self, used: dict[str, None]) -> JSONDict | None:
        """toolConfig, or None. It must be there whenever the history has calls: then tools that
        only the history knows are declared too."""
        choice = self._request.tool_choice
        report_parallel(self._request, self._losses, "Converse has no such switch")
        is_none = choice is not None and choice.mode == "none"
        tools = [] if is_none and not used else self._declared()
        declared = {spec["name"] for tool in tools if (spec := tool.get("toolSpec"))}
        if used and not declared:
            for name in used:
                tools.append({"toolSpec": {"name": name, "inputSchema": {"json": _ANY_OBJECT}}})
            self._losses.append(
                Loss("tools", LossCode.SYNTHESISED, "tools that only the history knows")
            )
        if not tools:
            return None
        out: JSONDict = {"tools": tools}
        wanted = self._choice(is_none)
        if wanted is not None:
            out["toolChoice"] = wanted
        return out

    def _declared(self) -> list[JSONDict]:
        choice = self._request.tool_choice
        only: frozenset[str] | None = None
        if choice is not None and choice.mode == "allowed":
            only = frozenset(choice.names)
            self._losses.append(
                Loss("tool_choice", LossCode.EMULATED, "only the allowed tools are declared")
            )
        out: list[JSONDict] = []
        for index, tool in unique_tools(self._request, self._losses):
            if only is not None and tool.name not in only:
                continue
            if tool.kind == "builtin":
                if tool.builtin_protocol != SLUG or tool.builtin is None:
                    raise UnsupportedContent(
                        f"{SLUG} has no equivalent of the built-in tool {tool.name!r} "
                        f"(tools[{index}]).",
                        param=f"tools[{index}]",
                    )
                declared = dict(tool.builtin)
            else:
                declared = {"toolSpec": self._spec(tool, index)}
            out.append(declared)
            if tool.cache is not None:
                self.marked.append((out, declared, tool.cache))
        return out

    def _spec(self, tool: Tool, index: int) -> JSONDict:
        path = f"tools[{index}]"
        spec: JSONDict = {"name": self._names.wire(tool.name, tool.namespace)}
        for key in tool.extra:
            self._losses.append(Loss(f"{path}.{key}", LossCode.DROPPED, "unknown to this protocol"))
        if tool.kind == "custom":
            spec["description"] = custom_description(tool)
            spec["inputSchema"] = {"json": CUSTOM_SCHEMA}
            self._losses.append(Loss(path, LossCode.EMULATED, "a free-text tool, as a function"))
            return spec
        if tool.description:
            spec["description"] = tool.description
        schema = object_schema(tool.schema, f"{path}.schema", self._losses)
        spec["inputSchema"] = {"json": schema}
        if tool.strict:
            problem: str | None = "not offered for this model"
            if self._model.quirks.supports_strict_tools:
                problem = strict_problem(schema) if self._model.quirks.is_claude else None
            if problem is None:
                spec["strict"] = True
            else:
                self._losses.append(Loss(f"{path}.strict", LossCode.DROPPED, f"strict: {problem}"))
        return spec

    def _choice(self, is_none: bool) -> JSONDict | None:
        choice = self._request.tool_choice
        if choice is None:
            return None
        if is_none:
            # The history has calls, so the tools must stay; forbidding them cannot be said.
            self._losses.append(
                Loss("tool_choice", LossCode.DROPPED, "Converse cannot forbid declared tools")
            )
            return None
        mode = choice.allowed_mode if choice.mode == "allowed" else choice.mode
        if not self._model.quirks.supports_tool_choice:
            if mode != "auto":
                self._losses.append(
                    Loss("tool_choice", LossCode.DROPPED, "this model takes no tool choice")
                )
            return None
        if mode == "named":
            return {"tool": {"name": self._names.wire(choice.names[0])}}
        return {"any": {}} if mode == "required" else {"auto": {}}


_ANY_OBJECT: JSONDict = {"type": "object", "properties": {}}
