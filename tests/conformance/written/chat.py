"""Requests as a Chat Completions client writes them: after the API reference, not our codec."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
    Base64,
    Document,
    FileId,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
    Video,
)
from tests.conformance.written.wording import (
    Unsayable,
    Written,
    mark,
    refuse,
    refuse_fields,
    set_given,
)

SLUG: Final = "openai-completions"


def write(request: Request) -> Written:
    refuse_fields(
        request,
        {
            "previous_response_id": "Chat Completions keeps no state",
            "conversation": "Chat Completions keeps no state",
        },
    )
    messages = [
        {
            "role": block.origin,
            "content": [mark({"type": "text", "text": block.text}, block.cache)]
            if block.cache
            else block.text,
        }
        for block in request.system
    ]
    for message in request.messages:
        messages += _turn(message)
    body: JSONDict = {"model": request.model, "messages": messages, **request.extra}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _choice(request.tool_choice)
    _knobs(body, request)
    return Written(body)


def _knobs(body: JSONDict, request: Request) -> None:
    wish = request.sampling
    set_given(
        body,
        max_completion_tokens=wish.max_output_tokens,
        temperature=wish.temperature,
        top_p=wish.top_p,
        top_k=wish.top_k,
        min_p=wish.min_p,
        repetition_penalty=wish.repetition_penalty,
        seed=wish.seed,
        stop=list(wish.stop) or None,
        presence_penalty=wish.presence_penalty,
        frequency_penalty=wish.frequency_penalty,
        logit_bias=wish.logit_bias,
        n=wish.n,
        logprobs=wish.logprobs,
        top_logprobs=wish.top_logprobs,
        parallel_tool_calls=request.parallel_tool_calls,
        verbosity=request.verbosity,
        store=request.store,
        metadata=request.metadata or None,
        safety_identifier=request.end_user_id,
        service_tier=request.service_tier,
        prompt_cache_key=request.caching.key,
    )
    if request.caching.retention:
        body["prompt_cache_retention"] = {"long": "24h", "short": "in_memory"}[
            request.caching.retention
        ]
    thinking = request.reasoning
    if thinking is not None:
        refuse(thinking.adaptive, "Chat Completions cannot leave the effort to the model")
        if thinking.budget_tokens is not None:
            # OpenRouter's object, which its clients send to any gateway.
            body["reasoning"] = {"max_tokens": thinking.budget_tokens}
        else:
            body["reasoning_effort"] = "none" if thinking.level == "off" else thinking.level
    wanted = request.response_format
    if wanted is not None:
        body["response_format"] = {"type": wanted.kind}
        if wanted.kind == "json_schema":
            inner: JSONDict = {}
            set_given(inner, name=wanted.name, schema=wanted.schema, strict=wanted.strict)
            body["response_format"]["json_schema"] = inner


def _turn(message: Message) -> list[JSONDict]:
    if message.role == "tool":
        return [_result(part) for part in message.parts if isinstance(part, ToolResult)]
    if message.role == "assistant":
        return [_assistant(message.parts)]
    content = [_shown(part) for part in message.parts]
    if len(content) == 1 and set(content[0]) == {"type", "text"}:
        return [{"role": message.role, "content": content[0]["text"]}]
    return [{"role": message.role, "content": content}]


def _assistant(parts: tuple[Part, ...]) -> JSONDict:
    out: JSONDict = {"role": "assistant", "content": None}
    calls: list[JSONDict] = []
    details: list[JSONDict] = []
    for part in parts:
        match part:
            case Text():
                out["content"] = part.text
            case Refusal():
                out["refusal"] = part.text
            case Thinking(signature=None):
                out["reasoning_content"] = part.text
            case Thinking():
                assert part.signature is not None
                wrapped = signatures.wrap(part.signature, native="")
                details.append(
                    {"type": "reasoning.encrypted", "data": wrapped}
                    if part.redacted
                    else {"type": "reasoning.text", "text": part.text, "signature": wrapped}
                )
            case ToolCall():
                if part.signature is not None:
                    wrapped = signatures.wrap(part.signature, native="")
                    details.append({"type": "reasoning.encrypted", "data": wrapped, "id": part.id})
                key = "input" if part.kind == "custom" else "arguments"
                calls.append(
                    {
                        "id": part.id,
                        "type": part.kind,
                        part.kind: {"name": part.name, key: part.arguments},
                    }
                )
            case _:
                raise Unsayable(f"no {type(part).__name__} in an assistant message")
    if details:
        out["reasoning_details"] = details
    if calls:
        out["tool_calls"] = calls
    return out


def _result(part: ToolResult) -> JSONDict:
    refuse(part.is_error, "a tool message cannot say that the tool failed")
    content: Any = [_shown(inner) for inner in part.content]
    if len(part.content) == 1 and isinstance(part.content[0], Text):
        content = part.content[0].text
    return {"role": "tool", "tool_call_id": part.call_id, "content": content or ""}


def _shown(part: Part) -> JSONDict:
    match part:
        case Text():
            return mark({"type": "text", "text": part.text}, part.cache)
        case Image():
            refuse(isinstance(part.source, FileId), "pictures have no file ids here")
            link = {"url": _url(part.source)}
            set_given(link, detail=part.detail)
            return {"type": "image_url", "image_url": link}
        case Audio(source=Base64(data=data)):
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        case Video():
            return {"type": "video_url", "video_url": {"url": _url(part.source)}}
        case Document():
            refuse(part.title or part.citations, "a file has no title, context or citations")
            if isinstance(part.source, FileId):
                return {"type": "file", "file": {"file_id": part.source.id}}
            refuse(isinstance(part.source, Url), "a file cannot be a link")
            file = {"file_data": _url(part.source)}
            set_given(file, filename=part.filename)
            return {"type": "file", "file": file}
        case _:
            raise Unsayable(f"no {type(part).__name__} in a user message")


def _url(source: Source) -> str:
    if isinstance(source, Url):
        return source.url
    assert isinstance(source, Base64)
    return f"data:{source.media_type};base64,{source.data}"


def _tool(tool: Tool) -> JSONDict:
    if tool.kind == "builtin":
        refuse(tool.builtin_protocol != SLUG, f"a tool of {tool.builtin_protocol}")
        return dict(tool.builtin or {})
    inner: JSONDict = {"name": tool.name}
    set_given(inner, description=tool.description)
    if tool.kind == "custom":
        if tool.grammar is not None:
            inner["format"] = {"type": "grammar", "grammar": tool.grammar}
        return {"type": "custom", "custom": inner}
    set_given(inner, parameters=tool.schema, strict=tool.strict)
    return mark({"type": "function", "function": inner}, tool.cache)


def _choice(choice: ToolChoice) -> Any:
    named = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if choice.mode == "named":
        return named[0]
    if choice.mode == "allowed":
        return {
            "type": "allowed_tools",
            "allowed_tools": {"mode": choice.allowed_mode, "tools": named},
        }
    return choice.mode
