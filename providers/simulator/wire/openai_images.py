"""Pictures: drawn from words, or changed by them. Every picture is one red pixel."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.scenarios import PIXEL
from providers.simulator.wire import checks
from providers.simulator.wire.checks import require
from providers.simulator.wire.openai_bodies import EVENTS, form_of, named_event, read_body
from providers.simulator.wire.openai_chat import check_fields
from providers.simulator.world import World

FIELDS: Final = (
    "model prompt background complexity frame_count frame_duration_ms moderation n "
    "output_compression output_format partial_images quality response_format safety_identifier "
    "size stream style svg user"
)


def generations(request: Request, world: World) -> Response:
    return _drawn(read_body(request, FIELDS), world, pictures=0)


def edits(request: Request, world: World) -> Response:
    parts = form_of(request)
    pictures = [part for part in parts if part.name in ("image", "image[]")]
    require(pictures, "image", "Missing required parameter: 'image'.")
    for number, part in enumerate(pictures):
        require(part.content, "image", f"image {number} is empty")
    fields: JSONDict = {
        part.name: part.content.decode("utf-8", "replace") for part in parts if not part.filename
    }
    for name in ("n", "partial_images", "output_compression"):
        if name in fields:
            require(fields[name].isdigit(), "range", f"{name} must be an integer")
            fields[name] = int(fields[name])
    if "stream" in fields:
        fields["stream"] = fields["stream"] == "true"
    fields.pop("input_fidelity", None)
    check_fields(fields, FIELDS.split(" "))
    return _drawn(fields, world, pictures=len(pictures))


def _drawn(body: JSONDict, world: World, *, pictures: int) -> Response:
    prompt = checks.text(body.get("prompt"), "prompt", may_be_empty=False)
    require(len(prompt) <= 32_000, "prompt", "prompt: at most 32000 characters")
    count = checks.whole_number(body.get("n") or 1, "n", 1, 10)
    size = body.get("size") or "1024x1024"
    form = body.get("response_format") or "b64_json"
    checks.one_of(form, "response_format", ("b64_json", "url"))
    output_format = body.get("output_format") or "png"
    checks.one_of(output_format, "output_format", ("png", "webp", "jpeg", "gif", "svg"))
    usage = {
        "input_tokens": max(1, len(prompt) // 4) + 64 * pictures,
        "input_tokens_details": {
            "text_tokens": max(1, len(prompt) // 4),
            "image_tokens": 64 * pictures,
        },
        "output_tokens": 272 * count,
    }
    usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]  # type: ignore[operator]
    created = int(world.now().timestamp())
    if body.get("stream"):
        partial = checks.whole_number(body.get("partial_images") or 0, "partial_images", 0, 3)
        kind = "image_edit" if pictures else "image_generation"
        return _drawing(kind, partial, {"created_at": created, "size": size}, usage)
    picture: JSONDict = {"b64_json": PIXEL}
    if form == "url":
        picture = {"url": f"https://example.com/{world.token('picture', 16)}.{output_format}"}
    answer: JSONDict = {"created": created, "data": [dict(picture) for _ in range(count)]}
    answer |= {"output_format": output_format, "size": size, "quality": "low"}
    return json_response({**answer, "background": "opaque", "usage": usage})


def _drawing(kind: str, partial: int, fields: JSONDict, usage: JSONDict) -> Response:
    """Sketches first, when asked for, and then the picture."""
    shown = {**fields, "b64_json": PIXEL, "background": "opaque"}
    shown |= {"output_format": "png", "quality": "low"}
    pieces: list[bytes] = []
    for number in range(partial):
        event = {"type": f"{kind}.partial_image", "partial_image_index": number, **shown}
        pieces.append(named_event(event))
    pieces.append(named_event({"type": f"{kind}.completed", **shown, "usage": usage}))
    return Response(200, b"".join(pieces), {"content-type": EVENTS})
