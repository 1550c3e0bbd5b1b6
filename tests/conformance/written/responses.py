"""Requests as a Responses client writes them: after the API reference, not our codec."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
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
    Signature,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Url,
)
from providers.protocols.openai_responses import carriers
from tests.conformance.written.wording import (
    Unsayable,
    Written,
    refuse,
    refuse_fields,
    set_given,
)

SLUG: Final = "openai-responses"
_NO_KNOB: Final = "Responses has no such knob"


def write(request: Request) -> Written:
    refuse_fields(
        request,
        {
            f"sampling.{name}": f"{_NO_KNOB}: {name}"
            for name in (
                "top_k", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty",
                "repetition_penalty", "logit_bias", "n",
            )
        },
    )  # fmt: skip
    items: list[JSONDict] = []
    for block in request.system:
        refuse(block.cache, "Responses has no cache marks")
        items.append(
            {"role": block.origin, "content": [{"type": "input_text", "text": block.text}]}
        )
    for message in request.messages:
        items += _turn(message)
    body: JSONDict = {"model": request.model, "input": items, **request.extra}
    if request.stream:
        body["stream"] = True
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
        max_output_tokens=wish.max_output_tokens,
        temperature=wish.temperature,
        top_p=wish.top_p,
        top_logprobs=wish.top_logprobs,
        parallel_tool_calls=request.parallel_tool_calls,
        store=request.store,
        metadata=request.metadata or None,
        safety_identifier=request.end_user_id,
        service_tier=request.service_tier,
        prompt_cache_key=request.caching.key,
        previous_response_id=request.previous_response_id,
    )
    if wish.logprobs:
        body["include"] = ["message.output_text.logprobs"]
    if request.caching.retention:
        body["prompt_cache_retention"] = {"long": "24h", "short": "in_memory"}[
            request.caching.retention
        ]
    thinking = request.reasoning
    if thinking is not None:
        refuse(thinking.adaptive, "Responses cannot leave the effort to the model")
        refuse(thinking.budget_tokens is not None, "Responses has efforts, no budgets")
        body["reasoning"] = {"effort": "none" if thinking.level == "off" else thinking.level}
    text: JSONDict = {}
    set_given(text, verbosity=request.verbosity)
    wanted = request.response_format
    if wanted is not None:
        text["format"] = {"type": wanted.kind}
        if wanted.kind == "json_schema":
            set_given(text["format"], name=wanted.name, schema=wanted.schema, strict=wanted.strict)
    if text:
        body["text"] = text


def _turn(message: Message) -> list[JSONDict]:
    if message.role == "tool":
        return [_result(part) for part in message.parts if isinstance(part, ToolResult)]
    if message.role == "assistant":
        return [item for part in message.parts for item in _said(part)]
    return [{"role": message.role, "content": [_shown(part) for part in message.parts]}]


def _said(part: Part) -> list[JSONDict]:
    match part:
        case Text(text=""):
            return [{"type": "message", "id": "msg_1", "role": "assistant", "content": [],
                     "status": "completed"}]  # fmt: skip
        case Text():
            content: JSONDict = {"type": "output_text", "text": part.text, "annotations": []}
        case Refusal():
            content = {"type": "refusal", "refusal": part.text}
        case Thinking(signature=Signature() as proof):
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return [
                {
                    "type": "reasoning",
                    "id": part.item_id or "rs_1",
                    "summary": summary,
                    "encrypted_content": carriers.for_thinking(proof),
                }
            ]
        case Thinking():
            return [
                {
                    "type": "reasoning",
                    "id": part.item_id or "rs_1",
                    "summary": [{"type": "summary_text", "text": part.text}],
                }
            ]
        case ToolCall():
            is_custom = part.kind == "custom"
            call: JSONDict = {
                "type": "custom_tool_call" if is_custom else "function_call",
                "call_id": part.id,
                "name": part.name,
                "input" if is_custom else "arguments": part.arguments,
            }
            if part.signature is None:
                return [call]
            proof_item = {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [],
                "encrypted_content": carriers.for_call(part.signature, part.id),
            }
            return [proof_item, call]
        case _:
            raise Unsayable(f"no {type(part).__name__} in an answer")
    return [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }
    ]


def _result(part: ToolResult) -> JSONDict:
    refuse(part.is_error, "an output cannot say that the tool failed")
    is_custom = part.kind == "custom"
    output: Any = [_shown(inner) for inner in part.content]
    if len(part.content) == 1 and isinstance(part.content[0], Text):
        output = part.content[0].text
    return {
        "type": "custom_tool_call_output" if is_custom else "function_call_output",
        "call_id": part.call_id,
        "output": output or "",
    }


def _shown(part: Part) -> JSONDict:
    match part:
        case Text():
            refuse(part.cache, "Responses has no cache marks")
            return {"type": "input_text", "text": part.text}
        case Image():
            out: JSONDict = {"type": "input_image", "detail": part.detail or "auto"}
            match part.source:
                case FileId(id=file_id):
                    return {**out, "file_id": file_id}
                case Url(url=url):
                    return {**out, "image_url": url}
                case Base64(media_type=kind, data=data):
                    return {**out, "image_url": f"data:{kind};base64,{data}"}
        case Document():
            refuse(part.title or part.citations, "a file has no title, context or citations")
            out = {"type": "input_file"}
            set_given(out, filename=part.filename)
            match part.source:
                case FileId(id=file_id):
                    return {**out, "file_id": file_id}
                case Url(url=url):
                    return {**out, "file_url": url}
                case Base64(media_type=kind, data=data):
                    return {**out, "file_data": f"data:{kind};base64,{data}"}
        case Audio(source=Base64(data=data)):
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    raise Unsayable(f"no {type(part).__name__} in a user message")


def _tool(tool: Tool) -> JSONDict:
    refuse(tool.cache, "Responses has no cache marks")
    if tool.kind == "builtin":
        refuse(tool.builtin_protocol != SLUG, f"a tool of {tool.builtin_protocol}")
        return dict(tool.builtin or {})
    out: JSONDict = {"type": tool.kind, "name": tool.name}
    set_given(out, description=tool.description)
    if tool.kind == "custom":
        if tool.grammar is not None:
            out["format"] = {"type": "grammar", **tool.grammar}
        return out
    return {**out, "parameters": tool.schema, "strict": tool.strict}


def _choice(choice: ToolChoice) -> Any:
    named = [{"type": "function", "name": name} for name in choice.names]
    if choice.mode == "named":
        return named[0]
    if choice.mode == "allowed":
        return {"type": "allowed_tools", "mode": choice.allowed_mode, "tools": named}
    return choice.mode
