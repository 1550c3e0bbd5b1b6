"""A Messages request as our callers send it, to the canonical form."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.anthropic_messages import fields
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.anthropic_messages.client_content import (
    ATTRIBUTION_PREFIX,
    ContentReader,
    cache_mark,
)
from providers.protocols.canonical import (
    LEVELS,
    Caching,
    Reasoning,
    Request,
    ResponseFormat,
    Sampling,
    SystemText,
    Tool,
    ToolChoice,
)
from providers.protocols.codec import ClientCall

MAX_TOOLS: Final = 1_000

_CANONICAL: Final = frozenset(
    {
        "model", "messages", "max_tokens", "system", "stop_sequences", "temperature", "top_p",
        "top_k", "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata",
        "service_tier", "cache_control", "stream",
    }
)  # fmt: skip
_TOOL_FIELDS: Final = frozenset(
    {"type", "name", "description", "input_schema", "strict", "cache_control"}
)


def decode_request(body: JSONDict, call: ClientCall, *, is_count: bool = False) -> Request:
    """`is_count`: a count_tokens body, which is the same without `max_tokens`."""
    reader = ContentReader()
    model = call.model or fields.string(body, "model", "")
    if not model:
        raise fields.wrong("model", "a non-empty string")
    max_tokens = fields.integer(body, "max_tokens", "")
    if max_tokens is None and not is_count:
        raise fields.wrong("max_tokens", "given: an integer of at least 0")
    if "messages" not in body:
        raise fields.wrong("messages", "given: an array of messages")
    extra = {key: value for key, value in body.items() if key not in _CANONICAL}
    tool_choice, parallel = _tool_choice(body.get("tool_choice"))
    level, response_format = _output(body, extra)
    system = _system(body.get("system"), reader)
    messages = reader.messages(body["messages"])
    metadata, user_id = _metadata(body.get("metadata"))
    stream = fields.flag(body, "stream", "")
    reasoning = _reasoning(body.get("thinking"), level, extra)
    if call.betas:
        extra["betas"] = list(call.betas)
    if reader.callers:
        extra["tool_callers"] = reader.callers
    if reader.unread:
        extra["unread_fields"] = reader.unread
    return Request(
        model=model,
        dialect=SLUG,
        messages=messages,
        system=system,
        tools=_tools(body.get("tools")),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        sampling=Sampling(
            max_output_tokens=max_tokens,
            temperature=fields.number(body, "temperature", low=0, high=2),
            top_p=fields.number(body, "top_p", low=0, high=1),
            top_k=fields.integer(body, "top_k", ""),
            stop=fields.strings(body.get("stop_sequences"), "stop_sequences"),
        ),
        reasoning=reasoning,
        response_format=response_format,
        caching=_caching(body),
        metadata=metadata,
        end_user_id=user_id,
        service_tier=fields.optional_string(body, "service_tier", ""),
        stream=bool(stream if call.stream is None else call.stream),
        include_usage=True,
        extra=extra,
    )


def _system(value: Any, reader: ContentReader) -> tuple[SystemText, ...]:
    # Claude Code's attribution line speaks to Anthropic's billing only; what is relayed to
    # Anthropic keeps it, a translation has nobody to say it to (trap 197).
    return tuple(
        block
        for block in reader.system(value, "system")
        if not block.text.startswith(ATTRIBUTION_PREFIX)
    )


def _metadata(value: Any) -> tuple[dict[str, str], str | None]:
    if value is None:
        return {}, None
    entries = fields.dictionary(value, "metadata")
    user_id = fields.optional_string(entries, "user_id", "metadata")
    rest = {key: fields.string(entries, key, "metadata") for key in entries if key != "user_id"}
    return rest, user_id or None


def _caching(body: JSONDict) -> Caching:
    mark = cache_mark(body, "request")
    if mark is None:
        return Caching()
    return Caching(retention="long" if mark.ttl == "1h" else "short")


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    entries = fields.items(value, "tools")
    if len(entries) > MAX_TOOLS:
        raise fields.wrong("tools", f"an array of at most {MAX_TOOLS} tools")
    return tuple(_tool(entry, f"tools[{index}]") for index, entry in enumerate(entries))


def _tool(entry: Any, where: str) -> Tool:
    tool = fields.dictionary(entry, where)
    kind = fields.optional_string(tool, "type", where)
    if kind not in (None, "custom"):
        return Tool(
            name=fields.optional_string(tool, "name", where) or str(kind),
            kind="builtin",
            cache=cache_mark(tool, where),
            builtin={key: item for key, item in tool.items() if key != "cache_control"},
            builtin_protocol=SLUG,
        )
    name = fields.string(tool, "name", where)
    if not name:
        raise fields.wrong(f"{where}.name", "a non-empty string")
    schema = tool.get("input_schema")
    return Tool(
        name=name,
        description=fields.optional_string(tool, "description", where),
        schema=None if schema is None else fields.dictionary(schema, f"{where}.input_schema"),
        strict=fields.flag(tool, "strict", where),
        cache=cache_mark(tool, where),
        extra={key: item for key, item in tool.items() if key not in _TOOL_FIELDS},
    )


def _tool_choice(value: Any) -> tuple[ToolChoice | None, bool | None]:
    if value is None:
        return None, None
    choice = fields.dictionary(value, "tool_choice")
    disabled = fields.flag(choice, "disable_parallel_tool_use", "tool_choice")
    parallel = None if disabled is None else not disabled
    match choice.get("type"):
        case "auto":
            return ToolChoice(mode="auto"), parallel
        case "any":
            return ToolChoice(mode="required"), parallel
        case "none":
            return ToolChoice(mode="none"), parallel
        case "tool":
            name = fields.string(choice, "name", "tool_choice")
            return ToolChoice(mode="named", names=(name,)), parallel
        case _:
            raise fields.wrong("tool_choice.type", "auto, any, tool or none")


def _output(body: JSONDict, extra: JSONDict) -> tuple[str | None, ResponseFormat | None]:
    """Effort and format. `output_format` is the older name of `output_config.format`."""
    value = body.get("output_config")
    config = {} if value is None else fields.dictionary(value, "output_config")
    effort = fields.optional_string(config, "effort", "output_config")
    if effort is not None and (effort not in LEVELS or effort == "off"):
        raise fields.wrong("output_config.effort", "low, medium, high, xhigh or max")
    rest = {key: item for key, item in config.items() if key not in ("effort", "format")}
    if rest:
        extra["output_config"] = rest
    where, wanted = "output_config.format", config.get("format")
    if wanted is None:
        where, wanted = "output_format", body.get("output_format")
    if wanted is None:
        return effort, None
    wanted = fields.dictionary(wanted, where)
    if wanted.get("type") != "json_schema":
        raise fields.wrong(f"{where}.type", "json_schema")
    schema = fields.dictionary(wanted.get("schema"), f"{where}.schema")
    return effort, ResponseFormat(kind="json_schema", schema=schema, strict=True)


def _reasoning(value: Any, level: Any, extra: JSONDict) -> Reasoning | None:
    if value is None:
        return None if level is None else Reasoning(level=level)
    thinking = fields.dictionary(value, "thinking")
    display = fields.optional_string(thinking, "display", "thinking")
    if display not in (None, "summarized", "omitted"):
        raise fields.wrong("thinking.display", "summarized or omitted")
    show = None if display is None else display == "summarized"
    match fields.string(thinking, "type", "thinking"):
        case "enabled":
            budget = fields.integer(thinking, "budget_tokens", "thinking", low=1)
            if budget is None:
                raise fields.wrong("thinking.budget_tokens", "an integer of at least 1024")
            return Reasoning(level=level, budget_tokens=budget, show=show)
        case "adaptive" | "auto":
            return Reasoning(level=level, adaptive=True, show=show)
        case "disabled":
            if level is not None:
                # Effort also governs how much is written, with thinking off too.
                extra["effort"] = level
            return Reasoning(level="off")
        case _:
            # `between_tools` and what may follow: Anthropic's own words, for Anthropic.
            extra["thinking"] = thinking
            return Reasoning(level=level, adaptive=True, show=show)
