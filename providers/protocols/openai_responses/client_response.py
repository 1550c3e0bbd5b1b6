"""The response object: the answer so far, and the request that it answers."""

from __future__ import annotations

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Request, Tool, ToolChoice
from providers.protocols.codec import Reply
from providers.protocols.openai_responses.client_request import NAMESPACE_DESCRIPTION


def response_object(
    reply: Reply, status: str, output: list[JSONDict], fields: JSONDict
) -> JSONDict:
    """The model is the one that the client asked for, whoever answered (trap 144)."""
    request = reply.request
    wish = request.sampling
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": _instructions(request),
        "max_output_tokens": wish.max_output_tokens,
        "max_tool_calls": request.extra.get("max_tool_calls"),
        "model": request.model,
        "output": output,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.caching.key,
        "reasoning": _reasoning(request),
        "service_tier": request.service_tier,
        "store": False,
        "temperature": wish.temperature,
        "text": _text(request),
        "tool_choice": _choice(request),
        "tools": _tools(request.tools),
        "top_logprobs": wish.top_logprobs,
        "top_p": wish.top_p,
        "truncation": request.extra.get("truncation") or "disabled",
        "usage": None,
        "user": request.end_user_id,
        "metadata": request.metadata,
        **fields,
    }


def _instructions(request: Request) -> str | None:
    texts = [block.text for block in request.system if block.origin == "instructions"]
    return "\n\n".join(texts) or None


def _reasoning(request: Request) -> JSONDict:
    wish = request.reasoning
    if wish is None:
        return {"effort": None, "summary": None}
    effort = "none" if wish.level == "off" else wish.level
    return {"effort": effort, "summary": wish.summary if wish.summary != "off" else None}


def _text(request: Request) -> JSONDict:
    wish = request.response_format
    entry: JSONDict = {"type": "text"}
    if wish is not None and wish.kind == "json_object":
        entry = {"type": "json_object"}
    elif wish is not None and wish.kind == "json_schema":
        entry = {
            "type": "json_schema",
            "name": wish.name or "response",
            "schema": wish.schema or {},
            "description": wish.description,
            "strict": wish.strict,
        }
    return {"format": entry, "verbosity": request.verbosity or "medium"}


def _choice(request: Request) -> object:
    choice = request.tool_choice
    if choice is None:
        return request.extra.get("tool_choice") or "auto"
    if choice.mode == "allowed":
        return {
            "type": "allowed_tools",
            "mode": choice.allowed_mode,
            "tools": [_named(name, request) for name in choice.names],
        }
    if choice.mode == "named":
        return _named(choice.names[0], request) if choice.names else "auto"
    return _plain(choice)


def _plain(choice: ToolChoice) -> str:
    return choice.mode


def _named(name: str, request: Request) -> JSONDict:
    tool = next((tool for tool in request.tools if tool.name == name), None)
    return {
        "type": "custom" if tool is not None and tool.kind == "custom" else "function",
        "name": name,
    }


def _tools(tools: tuple[Tool, ...]) -> list[JSONDict]:
    out: list[JSONDict] = []
    groups: dict[str, JSONDict] = {}
    for tool in tools:
        if tool.builtin is not None:
            out.append(tool.builtin)
        elif tool.namespace is None:
            out.append(_tool(tool))
        else:
            group = groups.get(tool.namespace)
            if group is None:
                group = groups[tool.namespace] = {
                    "type": "namespace",
                    "name": tool.namespace,
                    "description": tool.extra.get(NAMESPACE_DESCRIPTION) or tool.namespace,
                    "tools": [],
                }
                out.append(group)
            group["tools"].append(_tool(tool))
    return out


def _tool(tool: Tool) -> JSONDict:
    entry: JSONDict = {"type": tool.kind, "name": tool.name, "description": tool.description}
    if tool.kind == "custom":
        entry["format"] = {"type": "grammar", **tool.grammar} if tool.grammar else {"type": "text"}
    else:
        entry["parameters"] = tool.schema
        entry["strict"] = tool.strict
    for name, value in tool.extra.items():
        if name != NAMESPACE_DESCRIPTION:
            entry[name] = value
    return entry
