"""The official SDKs as readers of what our clients receive, whole and streamed.

Each reader goes through the SDK's own HTTP client, response models and stream parser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import anthropic
import httpx
import httpx2
import openai
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.anthropic_messages import carried
from providers.protocols.openai_responses import carriers
from tests.conformance.seen import Choice, Seen, parsed, source_url

_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
_URL: Final = "http://gateway.test/v1"


class Broken(Exception):
    """A Responses stream that failed: its SDK hands the last event out instead of raising."""


class Answering:
    """A server of one answer, for clients that are made once."""

    def __init__(self) -> None:
        self.content = b""
        self.media_type = "application/json"
        self.status = 200

    def of_two(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": self.media_type}
        return httpx2.Response(self.status, content=self.content, headers=headers)

    def of_one(self, request: httpx.Request) -> httpx.Response:
        headers = {"content-type": self.media_type}
        return httpx.Response(self.status, content=self.content, headers=headers)


SERVER: Final = Answering()


@cache
def _openai() -> openai.OpenAI:
    http = httpx2.Client(transport=httpx2.MockTransport(SERVER.of_two))
    return openai.OpenAI(api_key="test", base_url=_URL, max_retries=0, http_client=http)


@cache
def _anthropic() -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(SERVER.of_two))
    return anthropic.Anthropic(api_key="test", base_url=_URL, max_retries=0, http_client=http)


@cache
def _google() -> genai.Client:
    http = httpx.Client(transport=httpx.MockTransport(SERVER.of_one))
    return genai.Client(api_key="test", http_options=google.HttpOptions(httpx_client=http))


def _serve(content: bytes, *, stream: bool) -> None:
    SERVER.content = content
    SERVER.media_type = "text/event-stream" if stream else "application/json"


# --- Chat Completions -----------------------------------------------------------------------------


def chat_whole(body: bytes) -> Seen:
    _serve(body, stream=False)
    read = _openai().chat.completions.create(model="m", messages=[])
    return _completion(ChatCompletion.model_validate(read.to_dict()))


def chat_stream(data: bytes) -> Seen:
    _serve(data, stream=True)
    client = _openai()
    for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
        ChatCompletionChunk.model_validate(chunk.to_dict())
    with client.chat.completions.stream(model="m", messages=[]) as events:
        try:
            for _ in events:
                completion = events.current_completion_snapshot
            completion = events.get_final_completion()
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
            # The SDK's way to tell of these endings; what it had read by then is whole.
            pass
    return _completion(completion)


def _completion(completion: Any) -> Seen:
    seen = Seen()
    for choice in completion.choices:
        message = choice.message
        found = Choice(
            text=message.content or "",
            refusal=message.refusal or "",
            stop=choice.finish_reason,
            thoughts=getattr(message, "reasoning_content", None) or "",
        )
        for call in message.tool_calls or ():
            inner = call.function
            found.calls.append((call.id, inner.name, parsed(inner.arguments)))
        for note in message.annotations or ():
            found.sources.append(source_url(_plain(note)))
        for image in getattr(message, "images", None) or ():
            head, _, data = image["image_url"]["url"].partition(",")
            found.images.append((head.removeprefix("data:").removesuffix(";base64"), data))
        for entry in getattr(message, "reasoning_details", None) or ():
            value = entry.get("signature") or entry.get("data")
            found.proofs.append(signatures.unwrap(value, native="").value)
        if choice.logprobs is not None:
            found.logprobs = len(choice.logprobs.content or ())
        seen.choices.append(found)
    if completion.usage is not None:
        usage = completion.usage
        details = usage.prompt_tokens_details
        seen.usage = {
            "prompt": usage.prompt_tokens,
            "output": usage.completion_tokens,
            "cache_read": details.cached_tokens or 0,
            "cache_write": getattr(details, "cache_write_tokens", 0) or 0,
            "reasoning": usage.completion_tokens_details.reasoning_tokens or 0,
        }
    return seen


# --- Responses ------------------------------------------------------------------------------------


def responses_whole(body: bytes) -> Seen:
    _serve(body, stream=False)
    read = _openai().responses.create(model="m", input="")
    return _response(Response.model_validate(read.to_dict()))


def responses_stream(data: bytes) -> Seen:
    _serve(data, stream=True)
    client = _openai()
    # The SDK's accumulator gives a response only when it was completed: the last event has it
    # in every case.
    last: Any = None
    for event in client.responses.create(model="m", input="", stream=True):
        last = _EVENT.validate_python(event.to_dict())
    if last.type in ("response.failed", "error"):
        raise Broken((last.response.error if last.type == "response.failed" else last).message)
    with client.responses.stream(model="m", input="") as events:
        for _ in events:
            pass
    if last.type == "response.completed":
        final = _response(events.get_final_response())
        assert final == _response(last.response)
    return _response(last.response)


def _response(response: Any) -> Seen:
    found = Choice()
    stop = "stop" if response.status == "completed" else response.status
    if response.incomplete_details is not None:
        stop = response.incomplete_details.reason
    for item in response.output:
        match item.type:
            case "message":
                for part in item.content:
                    if part.type == "refusal":
                        found.refusal += part.refusal
                        continue
                    found.text += part.text
                    found.sources += [source_url(_plain(note)) for note in part.annotations]
                    found.logprobs += len(part.logprobs or ())
            case "reasoning":
                words = "\n\n".join(part.text for part in item.summary or item.content or ())
                if words:
                    found.thoughts += ("\n\n" if found.thoughts else "") + words
                if item.encrypted_content:
                    found.proofs.append(carriers.read(item.encrypted_content).signature.value)
            case "function_call":
                found.calls.append((item.call_id, item.name, parsed(item.arguments)))
                stop = "tool_use" if stop == "stop" else stop
            case "image_generation_call":
                found.images.append(("image/png", item.result))
            case other:
                raise AssertionError(f"nobody expected {other}")
    found.stop = stop
    seen = Seen([found])
    if response.usage is not None:
        usage = response.usage
        seen.usage = {
            "prompt": usage.input_tokens,
            "output": usage.output_tokens,
            "cache_read": usage.input_tokens_details.cached_tokens,
            "cache_write": getattr(usage.input_tokens_details, "cache_write_tokens", 0) or 0,
            "reasoning": usage.output_tokens_details.reasoning_tokens,
        }
    return seen


# --- Messages -------------------------------------------------------------------------------------


def messages_whole(body: bytes) -> Seen:
    _serve(body, stream=False)
    read = _anthropic().messages.create(
        model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
    )
    return _message(anthropic.types.Message.model_validate(read.to_dict()))


def messages_stream(data: bytes) -> Seen:
    _serve(data, stream=True)
    with _anthropic().messages.stream(
        model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        return _message(stream.get_final_message())


def _message(message: Any) -> Seen:
    found = Choice(stop=message.stop_reason, stop_sequence=message.stop_sequence)
    for block in message.content:
        match block.type:
            case "text":
                found.text += block.text
                found.sources += [source_url(_plain(note)) for note in block.citations or ()]
            case "thinking":
                if block.thinking:
                    found.thoughts += ("\n\n" if found.thoughts else "") + block.thinking
                if block.signature:
                    found.proofs.append(_carried(block.signature))
            case "redacted_thinking":
                found.proofs.append(_carried(block.data))
            case "tool_use":
                found.calls.append((block.id, block.name, block.input))
            case other:
                raise AssertionError(f"nobody expected {other}")
    usage = message.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    seen = Seen([found])
    seen.usage = {
        "prompt": usage.input_tokens + read + written,
        "output": usage.output_tokens,
        "cache_read": read,
        "cache_write": written,
        "reasoning": usage.output_tokens_details.thinking_tokens
        if usage.output_tokens_details
        else 0,
    }
    return seen


def _carried(value: str) -> str:
    """The proof as it was made, from what an Anthropic client holds."""
    proof = carried.signature_of(value)
    if proof.protocol.startswith("call:"):
        return proof.value.partition("\n")[2]
    return proof.value


# --- Gemini ---------------------------------------------------------------------------------------


def google_whole(body: bytes) -> Seen:
    _serve(body, stream=False)
    return _generated([_google().models.generate_content(model="m", contents="x")])


def google_stream(data: bytes) -> Seen:
    _serve(data, stream=True)
    return _generated(list(_google().models.generate_content_stream(model="m", contents="x")))


def _generated(chunks: list[Any]) -> Seen:
    choices: dict[int, Choice] = {}
    seen = Seen()
    for chunk in chunks:
        for candidate in chunk.candidates or ():
            choice = choices.setdefault(candidate.index or 0, Choice())
            for part in (candidate.content.parts if candidate.content else None) or ():
                _google_part(part, choice)
            if candidate.finish_reason is not None:
                choice.stop = candidate.finish_reason.value
            for source in _cited(candidate):
                choice.sources.append(source)
            if candidate.logprobs_result is not None:
                choice.logprobs += len(candidate.logprobs_result.chosen_candidates or ())
        usage = chunk.usage_metadata
        if usage is not None:
            thoughts = usage.thoughts_token_count or 0
            seen.usage = {
                "prompt": usage.prompt_token_count or 0,
                "output": (usage.candidates_token_count or 0) + thoughts,
                "cache_read": usage.cached_content_token_count or 0,
                "reasoning": thoughts,
            }
    seen.choices = [choices[number] for number in sorted(choices)]
    return seen


def _google_part(part: Any, choice: Choice) -> None:
    if part.thought_signature:
        raw = json.loads(part.model_dump_json(include={"thought_signature"}))["thought_signature"]
        value = raw.replace("-", "+").replace("_", "/")
        choice.proofs.append(signatures.unwrap(value, native="google-generative-ai").value)
    if part.function_call is not None:
        call = part.function_call
        choice.calls.append((call.id or "", call.name, call.args or {}))
    elif part.inline_data is not None:
        data = json.loads(part.model_dump_json())["inline_data"]["data"]
        data = data.replace("-", "+").replace("_", "/")
        choice.images.append((part.inline_data.mime_type, data))
    elif part.text:
        if part.thought:
            choice.thoughts += part.text
        else:
            choice.text += part.text


def _cited(candidate: Any) -> list[str]:
    found = candidate.citation_metadata
    return [citation.uri for citation in (found.citations if found else None) or ()]


def _plain(value: Any) -> JSONDict:
    dumped: JSONDict = value if isinstance(value, dict) else value.model_dump()
    return dumped


@dataclass(frozen=True, slots=True)
class Reader:
    whole: Callable[[bytes], Seen]
    stream: Callable[[bytes], Seen]
    # What reading raises for an error inside a stream.
    error: type[Exception]


# Cached: many upstreams lead to the same bytes.
READERS: Final[dict[str, Reader]] = {
    slug: Reader(cache(whole), cache(stream), error)
    for slug, whole, stream, error in (
        ("openai-completions", chat_whole, chat_stream, openai.APIError),
        ("openai-responses", responses_whole, responses_stream, Broken),
        ("anthropic-messages", messages_whole, messages_stream, anthropic.APIError),
        ("google-generative-ai", google_whole, google_stream, google_errors.APIError),
    )
}
