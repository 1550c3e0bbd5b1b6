"""Bodies that no client library would send: right ones, changed at random until they are odd."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, Final

from tests.security.dialects import JSON

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
    "hgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA: Final[JSON] = {"type": "object", "properties": {"at": {"type": ["string", "null"]}}}

# One rich conversation in each dialect: everything a codec reads is somewhere in it.
CHAT: Final[JSON] = {
    "model": "sim-gpt",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Really."}]},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:a/b;base64,QQ=="},
                },
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "run", "input": "x"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "ran"}]},
    ],
    "tools": [
        {"type": "function", "function": {"name": "look", "parameters": SCHEMA, "strict": True}},
        {"type": "custom", "custom": {"name": "run", "format": {"type": "text"}}},
    ],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "max_completion_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "seed": 7,
    "n": 1,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "presence_penalty": 0.1,
    "metadata": {"a": "b"},
    "user": "u",
    "parallel_tool_calls": False,
    "functions": [{"name": "old", "parameters": SCHEMA}],
    "function_call": "auto",
}
RESPONSES: Final[JSON] = {
    "model": "sim-gpt-responses",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": "Hello"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:a/b;base64,QQ=="},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "QQ=="},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "seen"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        },
        {"type": "item_reference", "id": "msg_1"},
    ],
    "tools": [
        {"type": "function", "name": "look", "parameters": SCHEMA, "strict": None},
        {"type": "custom", "name": "run", "format": {"type": "grammar", "syntax": "lark"}},
        {"type": "web_search_preview"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "in"}]},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "look"}]},
    "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "previous_response_id": None,
    "store": False,
    "max_output_tokens": 100,
    "truncation": "auto",
    "metadata": {"a": "b"},
    "prompt": {"id": "p"},
    "background": False,
}
MESSAGES: Final[JSON] = {
    "model": "sim-claude",
    "max_tokens": 2000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "a"},
                    "citations": {"enabled": True},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "QQ=="},
                {"type": "redacted_thinking", "data": "QQ=="},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "x"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "seen"}],
                },
                {"type": "search_result", "source": "a", "title": "b", "content": []},
            ],
        },
    ],
    "tools": [
        {"name": "look", "description": "d", "input_schema": SCHEMA, "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
        {"type": "custom", "name": "run", "input_schema": {"type": "object"}},
    ],
    "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["END"],
    "temperature": 1,
    "top_k": 5,
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "context_management": {"edits": []},
    "mcp_servers": [],
}
GEMINI: Final[JSON] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                {"inline_data": {"mime_type": "image/png", "data": PIXEL}},
                {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True, "thoughtSignature": "QQ=="},
                {"functionCall": {"id": "c1", "name": "look", "args": {"at": "x"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "look", "response": {"result": "seen"}}}
            ],
        },
        {"role": "model", "parts": [{"executableCode": {"language": "PYTHON", "code": "1"}}]},
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "parametersJsonSchema": SCHEMA}]},
        {"functionDeclarations": [{"name": "run", "parameters": {"type": "OBJECT"}}]},
        {"googleSearch": {}},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
    "generationConfig": {
        "temperature": 0.5,
        "maxOutputTokens": 100,
        "stopSequences": ["END"],
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        "thinkingConfig": {"thinkingBudget": 128, "includeThoughts": True},
        "candidateCount": 1,
        "responseModalities": ["TEXT"],
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "cachedContent": "cachedContents/x",
    "labels": {"a": "b"},
}
RICH: Final = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES, "gemini": GEMINI}

ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e308, 1e-308, "", " ", "a", "auto", "none", "user", "assistant", "tool"),
    *("\0", "\ud83d\ude00", "\ufeff", "\u202e", "é" * 300, "a" * 5000, "{", "[]", "null"),
    *("data:;base64,", "data:image/png;base64,%%%", "https://", "http://[::1", "//", "\\"),
    *([], {}, [[]], [None], [{}], {"": ""}, {"type": None}, {"type": "text"}, [0] * 50),
    *([{"type": "text", "text": 5}], {"role": "user"}, {"content": {"content": {}}}, [[[[[]]]]]),
    *({"type": "function"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    *({"anyOf": [{}, {"type": "null"}]}, {"type": ["string", "null"], "enum": [None]}),
)
# What Python's writer of JSON does not write, and what a reader may trip over.
RAW: Final = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"01", b"1.", b".5", b"+1", b"''"),
    *(b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\u0000"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b"//x"),
    *(b"[1,]", b"{,}", b'{"a":1,"a":2}', b"/**/1", b"0x10", b'"\t"', b"1" * 5000, b"\xef\xbb\xbf1"),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node but the root."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*at, key)
        yield from places(inner, (*at, key))


def odd_body(name: str, model: str, rng: random.Random) -> bytes:
    """A body of this dialect with one to four things wrong with it."""
    body = copy.deepcopy(RICH[name])
    # Most fields are optional: fewer of them let a codec come further.
    for key in list(body):
        if rng.random() < 0.35 and key not in {"messages", "input", "contents", "max_tokens"}:
            del body[key]
    if name != "gemini":
        body["model"] = model
        if rng.random() < 0.5:
            body["stream"] = True
    raw: list[bytes] = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        ways = list(places(body))
        if not ways:
            break
        *above, last = rng.choice(ways)
        holder = body
        for key in above:
            holder = holder[key]
        match rng.randrange(8):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, list):
                holder.insert(last, copy.deepcopy(rng.choice(ODD)))
            case 1:
                holder[rng.choice(("type", "role", "content", "x", "", "name", "text"))] = (
                    copy.deepcopy(rng.choice(ODD))
                )
            case 2 if isinstance(holder, list):
                holder[last:last] = [copy.deepcopy(holder[last])] * rng.choice((1, 2, 40))
            case 3:
                # A part of one place in another.
                source = body
                for key in rng.choice(ways):
                    try:
                        source = source[key]
                    except (KeyError, IndexError, TypeError):
                        break
                holder[last] = copy.deepcopy(source)
            case 4:
                raw.append(rng.choice(RAW))
                holder[last] = f"@raw{len(raw) - 1}@"
            case _:
                holder[last] = copy.deepcopy(rng.choice(ODD))
    text = json.dumps(body, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    for number, piece in enumerate(raw):
        text = text.replace(f'"@raw{number}@"'.encode(), piece)
    if rng.random() < 0.05:
        cut = rng.randrange(len(text))
        text = rng.choice((text[:cut], text[:cut] + b"\xff" + text[cut:], text[cut:], text * 2))
    return text
