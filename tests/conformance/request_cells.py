"""One cell of the request table: a scenario, said in a dialect, sent to an upstream."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols import registry
from providers.protocols.canonical import Request
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError
from providers.simulator.wire import Refused
from tests.conformance import judges, upstreams
from tests.conformance.request_scenarios import REQUESTS
from tests.conformance.written import DIALECTS, WRITERS
from tests.conformance.written.wording import Unsayable, Written

REQUEST_ID: Final = "req_conformance"

# What a vendor (or its SDK's types) would refuse of a body that we send all the same, and why we
# do. Everything not named here must be accepted.
_LIMIT: Final = "a limit of the vendor's that it reports itself: nothing is cut silently"
_OWN: Final = "in the client's own dialect what is not known is passed on for the vendor to judge"
_COMPATIBLE: Final = "compatible vendors (vLLM, Qwen, OpenRouter) take it; OpenAI says no itself"
VENDOR_SAYS_NO: Final[dict[tuple[str, str], str]] = {
    ("openai-completions", "video"): _COMPATIBLE,
    ("openai-completions", "builtin-chat"): _OWN,
    ("openai-completions", "top-k"): _OWN,
    ("openai-completions", "extensions"): _OWN,
    **{
        (slug, "stop-many"): _LIMIT
        for slug in (
            "openai-completions", "google-generative-ai", "google-vertex", "google-gemini-cli",
        )
    },
    **{
        (slug, "unknown-field"): _OWN
        for slug in (
            "openai-completions", "openai-responses", "azure-openai-responses",
            "anthropic-messages", "google-generative-ai", "google-vertex", "google-gemini-cli",
        )
    },
    **{
        (slug, "previous-response"): "the played vendor keeps no answer of this id"
        for slug in ("openai-responses", "azure-openai-responses")
    },
}  # fmt: skip
_RESPONSES: Final = ("openai-responses", "azure-openai-responses", "openai-codex-responses")
TYPES_SAY_NO: Final[dict[tuple[str, str], str]] = {
    ("openai-completions", "video"): _COMPATIBLE,
    ("openai-completions", "builtin-chat"): _OWN,
    **{
        (slug, "unknown-field"): _OWN
        for slug in ("google-generative-ai", "google-vertex", "google-gemini-cli")
    },
    **{
        (slug, "refused-before"): "the API takes a refusal without id, the SDK's types do not"
        for slug in _RESPONSES
    },
    **{
        (slug, "audio"): "input_audio is taken by audio models, the SDK's types left it out"
        for slug in _RESPONSES
    },
    ("openai-responses", "thoughts-of-responses"): (
        "a dialect that carried no item id cannot give one back"
    ),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A cell that was sent: the call, what the vendor understood or why it refused."""

    call: UpstreamCall
    vendor_refuses: str = ""
    types_refuse: str = ""

    def shown(self) -> JSONDict:
        call = self.call
        out: JSONDict = {"path": call.path}
        if call.query:
            out["query"] = call.query
        if call.headers:
            out["headers"] = call.headers
        out["body"] = call.body
        restore = msgspec.to_builtins(call.restore)
        if shown := {name: value for name, value in restore.items() if value}:
            out["restore"] = shown
        out["losses"] = [f"{loss.path}: {loss.code} ({loss.why})" for loss in call.losses]
        out["strict_mode"] = "refused" if any(loss.is_lossy for loss in call.losses) else "sent"
        if self.vendor_refuses:
            out["vendor_refuses"] = self.vendor_refuses
        return out


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario for one upstream: dialects that end in the same cell stand together."""

    cells: list[tuple[list[str], JSONDict]] = field(default_factory=list)

    def add(self, dialect: str, cell: JSONDict) -> None:
        plain = json.dumps(cell)
        for dialects, known in self.cells:
            if json.dumps(known) == plain:
                dialects.append(dialect)
                return
        self.cells.append(([dialect], cell))

    def shown(self) -> list[JSONDict]:
        return [{"dialects": dialects, **cell} for dialects, cell in self.cells]


@cache
def written(dialect: str, name: str) -> Written | str:
    """The client's body, or the reason why the dialect cannot say it."""
    try:
        return WRITERS[dialect](REQUESTS[name].request)
    except Unsayable as reason:
        return str(reason)


@cache
def decoded(dialect: str, name: str) -> Request | None:
    found = written(dialect, name)
    if isinstance(found, str):
        return None
    body = json.loads_dict(json.dumps(found.body))
    return registry.client(dialect).decode_request(body, found.call)


def asked(upstream: str, dialect: str, name: str) -> Sent | LocalProtocolError | None:
    """None: the dialect cannot say it. An error: the gateway refuses it."""
    request = decoded(dialect, name)
    if request is None:
        return None
    codec = registry.upstream(upstream)
    try:
        call = codec.encode_request(request, upstreams.MODELS[upstream], request_id=REQUEST_ID)
    except LocalProtocolError as error:
        return error
    return Sent(call, _vendor_says(upstream, call), _types_say(upstream, call))


def _vendor_says(upstream: str, call: UpstreamCall) -> str:
    try:
        upstreams.checked(call, upstream)
    except Refused as refused:
        return f"{refused.rule}: {refused.message}"
    return ""


def _types_say(upstream: str, call: UpstreamCall) -> str:
    judge = judges.JUDGES.get(upstreams.known_as(upstream))
    if judge is None:
        return ""
    try:
        judge(msgspec.structs.replace(call, body=json.loads_dict(json.dumps(call.body))))
    except (ValueError, AssertionError) as error:
        return str(error)[:2000] or type(error).__name__
    return ""


def row(upstream: str, name: str) -> Row:
    found = Row()
    for dialect in DIALECTS:
        cell = asked(upstream, dialect, name)
        if isinstance(cell, Sent):
            found.add(dialect, cell.shown())
        elif cell is not None:
            found.add(dialect, _refused(cell))
    return found


def _refused(error: LocalProtocolError) -> JSONDict:
    shown: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.param:
        shown["param"] = error.param
    return {"refused": shown}
