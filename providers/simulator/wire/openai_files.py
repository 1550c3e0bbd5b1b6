"""Files and batches: what is uploaded, and conversations that are answered later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.scenarios import events
from providers.simulator.wire import Refused, Wire, checks
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.openai_bodies import form_of, read_body
from providers.simulator.wire.openai_chat import ChatWire, check_metadata, error_body
from providers.simulator.wire.openai_responses import ResponsesWire
from providers.simulator.world import World

MAX_FILES: Final = 1000
MAX_LINES: Final = 50_000
# A batch is looked at, works, and is done: each after so many seconds of the world's clock.
VALIDATING_SECONDS: Final = 1
WORKING_SECONDS: Final = 5
_PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_DAY_SECONDS: Final = 86_400
# What may be asked in a batch, and who answers it.
_ENDPOINTS: Final[dict[str, Wire]] = {
    "/v1/chat/completions": ChatWire(),
    "/v1/responses": ResponsesWire(),
}


@dataclass(slots=True)
class _File:
    id: str
    name: str
    purpose: str
    created_at: int
    content: bytes = field(repr=False)

    def shown(self) -> JSONDict:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(slots=True)
class _Batch:
    id: str
    endpoint: str
    input_file_id: str
    created_at: int
    metadata: JSONDict | None
    total: int
    output_file_id: str = ""
    error_file_id: str = ""
    completed: int = 0
    failed: int = 0
    cancelled_at: int = 0
    completed_at: int = 0


@dataclass(slots=True)
class _Shelf:
    files: OrderedDict[str, _File] = field(default_factory=OrderedDict)
    batches: OrderedDict[str, _Batch] = field(default_factory=OrderedDict)


def _shelf(world: World) -> _Shelf:
    shelf: _Shelf = world.parts.setdefault("files", _Shelf())
    return shelf


def _now(world: World) -> int:
    return int(world.now().timestamp())


# --- files ---------------------------------------------------------------------------------


def _keep(world: World, name: str, purpose: str, content: bytes) -> _File:
    files = _shelf(world).files
    file = _File(f"file-{world.token('file', 24)}", name, purpose, _now(world), content)
    files[file.id] = file
    if len(files) > MAX_FILES:
        files.popitem(last=False)
    return file


def _find(request: Request, world: World) -> _File:
    id_ = request.params["id"]
    file = _shelf(world).files.get(id_)
    if file is None:
        raise Refused(404, f"No such File object: {id_}", code="not_found", param="id")
    return file


def _upload(request: Request, world: World) -> Response:
    parts = {part.name: part for part in form_of(request)}
    if "file" not in parts or not parts["file"].filename:
        raise fail("file", "Missing required parameter: 'file'.")
    purpose = parts["purpose"].content.decode("utf-8", "replace") if "purpose" in parts else ""
    checks.one_of(purpose, "purpose", _PURPOSES)
    require(parts["file"].content, "file", "The file is empty.")
    return json_response(
        _keep(world, parts["file"].filename, purpose, parts["file"].content).shown()
    )


def _files(request: Request, world: World) -> Response:
    purpose = (request.query.get("purpose") or [""])[0]
    found = [f.shown() for f in _shelf(world).files.values() if purpose in ("", f.purpose)]
    return json_response(_page(found[::-1]))


def _file(request: Request, world: World) -> Response:
    return json_response(_find(request, world).shown())


def _content(request: Request, world: World) -> Response:
    return Response(
        200, _find(request, world).content, {"content-type": "application/octet-stream"}
    )


def _delete(request: Request, world: World) -> Response:
    file = _find(request, world)
    del _shelf(world).files[file.id]
    return json_response({"id": file.id, "object": "file", "deleted": True})


def _page(data: list[JSONDict]) -> JSONDict:
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


# --- batches -------------------------------------------------------------------------------


def _create(request: Request, world: World) -> Response:
    body = read_body(
        request, "input_file_id endpoint completion_window metadata output_expires_after"
    )
    endpoint = checks.one_of(body.get("endpoint"), "endpoint", _ENDPOINTS)
    checks.one_of(body.get("completion_window"), "completion_window", ("24h",))
    check_metadata(body)
    id_ = checks.text(body.get("input_file_id"), "input_file_id")
    file = _shelf(world).files.get(id_)
    if file is None or file.purpose != "batch":
        raise fail("input_file", f"Invalid 'input_file_id': no file {id_!r} of purpose 'batch'.")
    lines = _lines(file.content)
    require(len(lines) <= MAX_LINES, "lines", f"A batch has at most {MAX_LINES} requests.")
    batch = _Batch(
        id=f"batch_{world.token('batch', 24)}",
        endpoint=endpoint,
        input_file_id=id_,
        created_at=_now(world),
        metadata=body.get("metadata"),
        total=len(lines),
    )
    _shelf(world).batches[batch.id] = batch
    if len(_shelf(world).batches) > MAX_FILES:
        _shelf(world).batches.popitem(last=False)
    return json_response(_shown(batch, world))


def _lines(content: bytes) -> list[bytes]:
    return [line for line in content.splitlines() if line.strip()]


def _batch_of(request: Request, world: World) -> _Batch:
    id_ = request.params["id"]
    batch = _shelf(world).batches.get(id_)
    if batch is None:
        raise Refused(404, f"No batch found with id '{id_}'.", code="not_found", param="id")
    return batch


def _batch(request: Request, world: World) -> Response:
    return json_response(_shown(_batch_of(request, world), world))


def _batches(_request: Request, world: World) -> Response:
    return json_response(_page([_shown(b, world) for b in _shelf(world).batches.values()][::-1]))


def _cancel(request: Request, world: World) -> Response:
    batch = _batch_of(request, world)
    state = _status(batch, world)
    if state in ("completed", "cancelled"):
        raise Refused(409, f"Cannot cancel a batch with status '{state}'.", code="conflict")
    batch.cancelled_at = _now(world)
    return json_response(_shown(batch, world))


def _status(batch: _Batch, world: World) -> str:
    if batch.cancelled_at:
        return "cancelled"
    age = _now(world) - batch.created_at
    if age < VALIDATING_SECONDS:
        return "validating"
    return "in_progress" if age < WORKING_SECONDS else "completed"


def _shown(batch: _Batch, world: World) -> JSONDict:
    status = _status(batch, world)
    if status == "completed" and not batch.completed_at:
        _run(batch, world)
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": status,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": batch.created_at,
        "in_progress_at": None if status == "validating" else batch.created_at + 1,
        "expires_at": batch.created_at + _DAY_SECONDS,
        "completed_at": batch.completed_at or None,
        "cancelled_at": batch.cancelled_at or None,
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": batch.metadata,
    }


def _run(batch: _Batch, world: World) -> None:
    """Answers every line; answers and refusals go to files of their own."""
    batch.completed_at = batch.created_at + WORKING_SECONDS
    file = _shelf(world).files.get(batch.input_file_id)
    answers: list[bytes] = []
    refusals: list[bytes] = []
    for line in _lines(file.content) if file is not None else []:
        status, custom_id, body = _answered(line, batch.endpoint, world)
        entry = {
            "id": f"batch_req_{world.token('batch_request', 24)}",
            "custom_id": custom_id,
            "response": {"status_code": status, "request_id": batch.id, "body": body},
            "error": None,
        }
        (answers if status == 200 else refusals).append(json.dumps(entry))
    batch.completed, batch.failed = len(answers), len(refusals)
    if answers:
        content = b"\n".join(answers) + b"\n"
        batch.output_file_id = _keep(world, "output.jsonl", "batch_output", content).id
    if refusals:
        content = b"\n".join(refusals) + b"\n"
        batch.error_file_id = _keep(world, "errors.jsonl", "batch_output", content).id


def _answered(line: bytes, endpoint: str, world: World) -> tuple[int, str, JSONDict]:
    custom_id = ""
    wire = _ENDPOINTS[endpoint]
    try:
        try:
            entry = json.loads_dict(line)
        except json.InvalidJSON as error:
            raise fail("json", f"Invalid JSON: {error}.") from None
        custom_id = checks.text(entry.get("custom_id"), "custom_id", may_be_empty=False)
        checks.one_of(entry.get("url"), "url", (endpoint,))
        checks.one_of(entry.get("method"), "method", ("POST",))
        body = checks.table(entry.get("body"), "body")
        request = Request("POST", endpoint, {}, json.dumps(body))
        wire.model_of(request, body)
        require(not body.get("stream"), "stream", "A batch cannot stream.")
        ask = wire.read(request, body, world)
        return 200, custom_id, json.loads_dict(wire.answer(ask, body, events(ask)))
    except Refused as refused:
        if refused.rule:
            world.violation("openai", refused.rule, refused.message)
        return refused.status, custom_id, error_body(refused)


# (method, pattern, operation) -> handler; routes of the media wire.
FILES: Final[dict[tuple[str, str, str], Callable[[Request, World], Response]]] = {
    ("POST", "/v1/files", "file_upload"): _upload,
    ("GET", "/v1/files", "files"): _files,
    ("GET", "/v1/files/{id}", "file"): _file,
    ("GET", "/v1/files/{id}/content", "file_content"): _content,
    ("DELETE", "/v1/files/{id}", "file_delete"): _delete,
    ("POST", "/v1/batches", "batch_create"): _create,
    ("GET", "/v1/batches", "batches"): _batches,
    ("GET", "/v1/batches/{id}", "batch"): _batch,
    ("POST", "/v1/batches/{id}/cancel", "batch_cancel"): _cancel,
}
