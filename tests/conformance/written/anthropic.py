"""Requests as a Messages client writes them: after the API reference, not our codec."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import InvalidJSON, JSONDict, loads_dict
from providers.protocols import signatures
from providers.protocols.anthropic_messages import carried
from providers.protocols.canonical import (
    Base64,
    Document,
    FileId,
    Image,
    Message,
    Part,
    Request,
    Signature,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from tests.conformance.written.wording import (
    Unsayable,
    Written,
    mark,
    refuse,
    refuse_fields,
    set_given,
)

SLUG: Final = "anthropic-messages"
# A limit is required: clients write one even when they mean none.
LIMIT: Final = 32_000


def write(request: Request) -> Written:
    refuse_fields(
        request,
        {
            f"sampling.{name}": f"Messages has no such knob: {name}"
            for name in (
                "min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
                "logit_bias", "n", "logprobs",
            )
        }
        | {
            "store": "Messages keeps no answers",
            "previous_response_id": "Messages keeps no state",
            "verbosity": "Messages has no verbosity",
            "metadata": "metadata holds the user's id only",
        },
    )  # fmt: skip
    limit = request.sampling.max_output_tokens or LIMIT
    refuse(request.caching.key, "Messages has no cache keys")
    refuse(
        request.service_tier not in (None, "auto", "standard_only"),
        "Messages has the tiers auto and standard_only",
    )
    temperature = request.sampling.temperature
    refuse(temperature is not None and temperature > 1, "temperatures end at 1")
    messages: list[JSONDict] = []
    for message in request.messages:
        _add(messages, message)
    body: JSONDict = {
        "model": request.model,
        "max_tokens": limit,
        "messages": messages,
        **request.extra,
    }
    if request.system:
        refuse(
            any(block.origin != "system" for block in request.system),
            "there is one kind of system prompt",
        )
        body["system"] = [
            mark({"type": "text", "text": block.text}, block.cache) for block in request.system
        ]
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["tool_choice"]["disable_parallel_tool_use"] = not request.parallel_tool_calls
    _knobs(body, request)
    return Written(body)


def _knobs(body: JSONDict, request: Request) -> None:
    wish = request.sampling
    set_given(
        body,
        temperature=wish.temperature,
        top_p=wish.top_p,
        top_k=wish.top_k,
        stop_sequences=list(wish.stop) or None,
        service_tier=request.service_tier,
    )
    if request.end_user_id:
        body["metadata"] = {"user_id": request.end_user_id}
    output: JSONDict = {}
    thinking = request.reasoning
    if thinking is not None:
        if thinking.level == "off":
            body["thinking"] = {"type": "disabled"}
        elif thinking.budget_tokens is not None:
            body["thinking"] = {"type": "enabled", "budget_tokens": thinking.budget_tokens}
        elif thinking.adaptive:
            body["thinking"] = {"type": "adaptive"}
            if thinking.show is not None:
                body["thinking"]["display"] = "summarized" if thinking.show else "omitted"
        if thinking.level not in (None, "off"):
            refuse(thinking.level == "minimal", "efforts begin with low")
            output["effort"] = thinking.level
    wanted = request.response_format
    if wanted is not None:
        refuse(wanted.kind != "json_schema", "JSON needs a schema")
        output["format"] = {"type": "json_schema", "schema": wanted.schema}
    if output:
        body["output_config"] = output


def _add(messages: list[JSONDict], message: Message) -> None:
    """Results stand in a user message; the user's words of the same turn follow them there."""
    if message.role == "assistant":
        blocks = [block for part in message.parts for block in _said(part)]
        messages.append({"role": "assistant", "content": blocks})
    elif message.role == "tool":
        blocks = [_result(part) for part in message.parts if isinstance(part, ToolResult)]
        messages.append({"role": "user", "content": blocks})
    elif message.role == "user" and messages and _has_results(messages[-1]):
        messages[-1]["content"] += [_shown(part) for part in message.parts]
    else:
        blocks = [_shown(part) for part in message.parts]
        messages.append({"role": message.role, "content": blocks})


def _has_results(message: JSONDict) -> bool:
    return any(block["type"] == "tool_result" for block in message["content"])


def _said(part: Part) -> list[JSONDict]:
    match part:
        case Text():
            return [mark({"type": "text", "text": part.text}, part.cache)]
        case Thinking(redacted=True, signature=Signature() as proof):
            return [{"type": "redacted_thinking", "data": signatures.wrap(proof, native=SLUG)}]
        case Thinking(signature=Signature() as proof):
            wrapped = signatures.wrap(proof, native=SLUG)
            return [{"type": "thinking", "thinking": part.text, "signature": wrapped}]
        case Thinking():
            return [{"type": "thinking", "thinking": part.text, "signature": ""}]
        case ToolCall():
            refuse(part.kind == "custom", "calls take JSON")
            try:
                arguments = loads_dict(part.arguments)
            except InvalidJSON:
                raise Unsayable("a call's input is JSON, never text") from None
            block = {
                "type": "tool_use", "id": part.id, "name": part.name, "input": arguments
            }  # fmt: skip
            if part.signature is None:
                return [block]
            wrapped = carried.proof_of_call(part.id, part.signature)
            return [{"type": "thinking", "thinking": "", "signature": wrapped}, block]
        case _:
            raise Unsayable(f"no {type(part).__name__} in an assistant message")


def _result(part: ToolResult) -> JSONDict:
    out: JSONDict = {"type": "tool_result", "tool_use_id": part.call_id}
    if part.content:
        out["content"] = [_shown(inner) for inner in part.content]
    if part.is_error:
        out["is_error"] = True
    return out


def _shown(part: Part) -> JSONDict:
    match part:
        case Text():
            return mark({"type": "text", "text": part.text}, part.cache)
        case Image():
            refuse(part.detail, "a picture has no detail")
            return {"type": "image", "source": _source(part.source)}
        case Document():
            refuse(part.filename, "a document has a title, no file name")
            out: JSONDict = {"type": "document", "source": _source(part.source)}
            set_given(out, title=part.title, context=part.context)
            if part.citations:
                out["citations"] = {"enabled": True}
            return out
        case _:
            raise Unsayable(f"no {type(part).__name__} in a message")


def _source(source: Source) -> JSONDict:
    match source:
        case Url(url=url):
            return {"type": "url", "url": url}
        case FileId(id=file_id):
            return {"type": "file", "file_id": file_id}
        case Base64():
            return {"type": "base64", "media_type": source.media_type, "data": source.data}


def _tool(tool: Tool) -> JSONDict:
    if tool.kind == "builtin":
        refuse(tool.builtin_protocol != SLUG, f"a tool of {tool.builtin_protocol}")
        return dict(tool.builtin or {})
    refuse(tool.kind == "custom", "tools take JSON")
    refuse(tool.schema is None, "input_schema is required")
    out: JSONDict = {"name": tool.name, "input_schema": tool.schema}
    set_given(out, description=tool.description, strict=tool.strict)
    return mark(out, tool.cache)


def _choice(choice: ToolChoice) -> dict[str, Any]:
    refuse(choice.mode == "allowed", "a subset of the tools cannot be chosen")
    if choice.mode == "named":
        return {"type": "tool", "name": choice.names[0]}
    return {"type": "any" if choice.mode == "required" else choice.mode}
