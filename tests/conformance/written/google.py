"""Requests as a Gemini client writes them: after the API reference, not our codec."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import InvalidJSON, JSONDict, loads_dict
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
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
    Video,
)
from providers.protocols.codec import ClientCall
from tests.conformance.written.wording import (
    Unsayable,
    Written,
    refuse,
    refuse_fields,
    set_given,
)

SLUG: Final = "google-generative-ai"


def write(request: Request) -> Written:
    refuse_fields(
        request,
        {
            f"sampling.{name}": f"Gemini has no such knob: {name}"
            for name in ("min_p", "repetition_penalty", "logit_bias")
        }
        | {
            "store": "Gemini keeps no answers",
            "previous_response_id": "Gemini keeps no state",
            "verbosity": "Gemini has no verbosity",
            "end_user_id": "Gemini has no field for the end user",
            "parallel_tool_calls": "Gemini cannot turn parallel calls off",
            "metadata": "the Gemini API has no labels (Vertex has)",
        },
    )
    refuse(request.caching.key, "Gemini has no cache keys")
    names = {
        part.id: part.name
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCall)
    }
    contents = [_content(message, names) for message in request.messages]
    body: JSONDict = {"contents": contents, **request.extra}
    if request.system:
        for block in request.system:
            refuse(block.origin != "system", "there is one kind of system prompt")
            refuse(block.cache, "Gemini has no cache marks")
        body["systemInstruction"] = {"parts": [{"text": block.text} for block in request.system]}
    if request.tools:
        declared = [_declaration(tool) for tool in request.tools if tool.kind != "builtin"]
        body["tools"] = [_builtin(tool) for tool in request.tools if tool.kind == "builtin"]
        if declared:
            body["tools"].append({"functionDeclarations": declared})
    if request.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _choice(request.tool_choice)}
    generation = _generation(request)
    if generation:
        body["generationConfig"] = generation
    set_given(body, serviceTier=request.service_tier)
    return Written(body, ClientCall(model=request.model, stream=request.stream))


def _generation(request: Request) -> JSONDict:
    wish = request.sampling
    out: JSONDict = {}
    set_given(
        out,
        maxOutputTokens=wish.max_output_tokens,
        temperature=wish.temperature,
        topP=wish.top_p,
        topK=wish.top_k,
        seed=wish.seed,
        stopSequences=list(wish.stop) or None,
        presencePenalty=wish.presence_penalty,
        frequencyPenalty=wish.frequency_penalty,
        candidateCount=wish.n,
        responseLogprobs=wish.logprobs,
        logprobs=wish.top_logprobs,
    )
    thinking = request.reasoning
    if thinking is not None:
        config: JSONDict = {}
        if thinking.level == "off":
            config["thinkingBudget"] = 0
        elif thinking.adaptive:
            config["thinkingBudget"] = -1
        elif thinking.budget_tokens is not None:
            config["thinkingBudget"] = thinking.budget_tokens
        elif thinking.level is not None:
            refuse(thinking.level == "max", "levels end with XHIGH")
            config["thinkingLevel"] = thinking.level.upper()
        set_given(config, includeThoughts=thinking.show)
        out["thinkingConfig"] = config
    wanted = request.response_format
    if wanted is not None:
        out["responseMimeType"] = "application/json"
        set_given(out, responseJsonSchema=wanted.schema)
    return out


def _content(message: Message, names: dict[str, str]) -> JSONDict:
    refuse(message.role == "system", "there is one system prompt, before everything")
    if message.role == "assistant":
        return {"role": "model", "parts": [_said(part) for part in message.parts]}
    if message.role == "tool":
        parts = [_result(part, names) for part in message.parts if isinstance(part, ToolResult)]
        return {"role": "user", "parts": parts}
    return {"role": "user", "parts": [_shown(part) for part in message.parts]}


def _said(part: Part) -> JSONDict:
    match part:
        case Text():
            return {"text": part.text}
        case Thinking(redacted=True):
            return _signed({"thought": True}, part.signature)
        case Thinking():
            return _signed({"text": part.text, "thought": True}, part.signature)
        case ToolCall():
            refuse(part.kind == "custom", "calls take JSON")
            try:
                arguments = loads_dict(part.arguments)
            except InvalidJSON:
                raise Unsayable("a call's args are JSON, never text") from None
            wire = {"id": part.id, "name": part.name, "args": arguments}
            return _signed({"functionCall": wire}, part.signature)
        case _:
            raise Unsayable(f"no {type(part).__name__} in a model's turn")


def _signed(part: JSONDict, proof: Signature | None) -> JSONDict:
    if proof is not None:
        part["thoughtSignature"] = signatures.wrap(proof, native=SLUG)
    return part


def _result(part: ToolResult, names: dict[str, str]) -> JSONDict:
    words = "".join(inner.text for inner in part.content if isinstance(inner, Text))
    wire: JSONDict = {
        "id": part.call_id,
        "name": part.name or names[part.call_id],
        "response": {"error" if part.is_error else "output": words},
    }
    others = [_shown(inner) for inner in part.content if not isinstance(inner, Text)]
    if others:
        wire["parts"] = others
    return {"functionResponse": wire}


def _shown(part: Part) -> JSONDict:
    match part:
        case Text():
            refuse(part.cache, "Gemini has no cache marks")
            return {"text": part.text}
        case Image():
            refuse(part.detail, "a picture has no detail")
            return _media(part.source, "image/png")
        case Document():
            refuse(part.title or part.citations, "a file has no title, context or citations")
            refuse(isinstance(part.source, FileId), "files are named by URI")
            return _media(part.source, "application/pdf", part.filename)
        case Audio() | Video():
            return _media(part.source, "")
        case _:
            raise Unsayable(f"no {type(part).__name__} in a message")


def _media(source: Source, kind: str, name: str | None = None) -> JSONDict:
    match source:
        case Base64():
            blob: JSONDict = {"mimeType": source.media_type, "data": source.data}
            set_given(blob, displayName=name)
            return {"inlineData": blob}
        case Url(url=url):
            return {"fileData": {"fileUri": url, "mimeType": kind}}
        case FileId():
            raise Unsayable("files are named by URI")


def _declaration(tool: Tool) -> JSONDict:
    refuse(tool.kind == "custom", "calls take JSON")
    refuse(tool.strict, "a declaration cannot be strict")
    refuse(tool.cache, "Gemini has no cache marks")
    out: JSONDict = {"name": tool.name}
    set_given(out, description=tool.description, parametersJsonSchema=tool.schema)
    return out


def _builtin(tool: Tool) -> JSONDict:
    refuse(tool.builtin_protocol != SLUG, f"a tool of {tool.builtin_protocol}")
    return dict(tool.builtin or {})


def _choice(choice: ToolChoice) -> dict[str, Any]:
    match choice.mode:
        case "named":
            return {"mode": "ANY", "allowedFunctionNames": list(choice.names)}
        case "allowed":
            mode = "ANY" if choice.allowed_mode == "required" else "AUTO"
            return {"mode": mode, "allowedFunctionNames": list(choice.names)}
        case "required":
            return {"mode": "ANY"}
        case mode:
            return {"mode": mode.upper()}
