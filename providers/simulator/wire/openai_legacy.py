"""OpenAI's completions before there were messages: a text goes in, its continuation comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event, Finish, TextDelta, Usage, UsageUpdate
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response
from providers.simulator.wire import Refused, WireRoute, checks
from providers.simulator.wire.checks import require
from providers.simulator.wire.openai_chat import check_fields, error_body, openai_error
from providers.simulator.world import World

FIELDS: Final = frozenset(
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n "
    "presence_penalty seed stop stream stream_options suffix temperature top_p user".split(" ")
)


class LegacyWire:
    slug = "openai-completions"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes = (WireRoute("POST", "/v1/completions", "chat"),)

    def authenticate(self, request: Request, world: World) -> None:
        checks.check_key(request.bearer(), world)

    def model_of(self, request: Request, body: JSONDict) -> str:
        return checks.text(body.get("model"), "model", may_be_empty=False)

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        return bool(body.get("stream"))

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        check_fields(body, FIELDS)
        if body.get("max_tokens") is not None:
            checks.whole_number(body["max_tokens"], "max_tokens", 0)
        if body.get("temperature") is not None:
            checks.number(body["temperature"], "temperature", 0, 2)
        for name in ("n", "best_of"):
            if body.get(name) is not None:
                checks.whole_number(body[name], name, 1, 128)
        if body.get("logprobs") is not None:
            checks.whole_number(body["logprobs"], "logprobs", 0, 5)
        require(
            (body.get("best_of") or 20) >= (body.get("n") or 1),
            "best_of",
            "'best_of' must be greater than or equal to 'n'",
        )
        require(
            not (body.get("stream") and (body.get("best_of") or 1) > 1),
            "best_of",
            "Cannot stream results with best_of > 1.",
        )
        prompts = _prompts(body.get("prompt"))
        stop = body.get("stop") or ()
        return Ask(
            model=body["model"],
            prompt=prompts[0],
            prompt_bytes=checks.prompt_bytes(body),
            # The vendor stops early here unless told otherwise.
            max_tokens=body.get("max_tokens", 16),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            choices=(body.get("n") or 1) * len(prompts),
            logprobs=body.get("logprobs"),
            protocol=self.slug,
            id=world.token("completion", 24),
            created=int(world.now().timestamp()),
        )

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        texts: dict[int, str] = {}
        for event in events:
            if isinstance(event, TextDelta):
                texts[event.choice] = texts.get(event.choice, "") + event.text
        echoed = ask.prompt if body.get("echo") else ""
        choices = [
            _choice(event, echoed + texts.get(event.choice, ""))
            for event in events
            if isinstance(event, Finish)
        ]
        usage = next(event.usage for event in events if isinstance(event, UsageUpdate))
        return json.dumps({**_completion(ask), "choices": choices, "usage": _usage(usage)})

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> Iterable[bytes]:
        options = body.get("stream_options") or {}
        head = _completion(ask)
        if body.get("echo"):
            yield _sse({**head, "choices": [_open_choice(0, ask.prompt)]})
        for event in events:
            if isinstance(event, TextDelta):
                yield _sse({**head, "choices": [_open_choice(event.choice, event.text)]})
            elif isinstance(event, Finish):
                yield _sse({**head, "choices": [_choice(event, "")]})
            elif isinstance(event, UsageUpdate) and options.get("include_usage"):
                yield _sse({**head, "choices": [], "usage": _usage(event.usage)})
        yield b"data: [DONE]\n\n"

    def error_piece(self, refused: Refused) -> bytes:
        return b"data: " + json.dumps(error_body(refused)) + b"\n\n"

    def error(self, refused: Refused) -> Response:
        return openai_error(refused)

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        raise Refused(404, f"Unknown operation {route.operation}.")


def _sse(value: JSONDict) -> bytes:
    return b"data: " + json.dumps(value) + b"\n\n"


def _completion(ask: Ask) -> JSONDict:
    return {
        "id": f"cmpl-{ask.id}",
        "object": "text_completion",
        "created": ask.created,
        "model": ask.model,
    }


def _open_choice(index: int, text: str) -> JSONDict:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None}


def _choice(finish: Finish, text: str) -> JSONDict:
    reasons = {"length": "length", "content_filter": "content_filter"}
    return {
        "index": finish.choice,
        "text": text,
        "logprobs": None,
        "finish_reason": reasons.get(finish.reason, "stop"),
    }


def _usage(usage: Usage) -> JSONDict:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
    }


def _prompts(value: object) -> list[str]:
    """One text, several, or tokens."""
    if value is None:
        return [""]
    if isinstance(value, str):
        return [value]
    prompts = checks.items(value, "prompt")
    require(prompts, "prompt", "prompt: expected a non-empty array")
    if all(type(token) is int for token in prompts):
        return [f"{len(prompts)} tokens"]
    return [prompt if isinstance(prompt, str) else f"{len(prompt)} tokens" for prompt in prompts]


WIRES: Final = (LegacyWire(),)
