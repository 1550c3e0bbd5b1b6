"""OpenAI's other endpoints: model read and exchanged in place, usage read, nothing else."""

from __future__ import annotations

import httpx
import pytest

from controlplane.kit.json import JSONDict, dumps, loads_dict
from providers.protocols.canonical import Usage
from providers.protocols.errors import LocalProtocolError
from providers.protocols.openai_completions.passthrough import (
    Endpoint,
    Measured,
    PassthroughMeter,
    measure,
    view,
    with_model,
)

JSON = "application/json"


def form(**fields: str) -> tuple[str, bytes]:
    """A form as httpx writes it, with an upload whose bytes look like a boundary."""
    upload = b"RIFF\r\n--nearly\r\n\r\n" + bytes(range(256))
    request = httpx.Request(
        "POST", "http://x", data=fields, files={"file": ("a.wav", upload, "audio/wav")}
    )
    return request.headers["content-type"], request.read()


def test_json_view() -> None:
    raw = dumps({"model": "m", "input": ["a"], "n": 3, "user": "u", "stream": True})
    seen = view(Endpoint.IMAGES, JSON, raw)
    assert (seen.model, seen.inputs, seen.end_user_id, seen.stream) == ("m", 3, "u", True)
    assert view(Endpoint.SPEECH, JSON, dumps({"model": "m", "stream_format": "sse"})).stream
    assert Endpoint.TRANSCRIPTIONS.path == "/audio/transcriptions"


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_a_missing_model_is_named_or_left_to_the_vendor(endpoint: Endpoint) -> None:
    if endpoint in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS, Endpoint.MODERATIONS):
        assert view(endpoint, JSON, b'{"prompt":"x"}').model is None
        assert loads_dict(with_model(b'{"prompt":"x"}', JSON, "m"))["model"] == "m"
        return
    with pytest.raises(LocalProtocolError) as caught:
        view(endpoint, JSON, b'{"input":"x"}')
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": "m", "stream": "yes"}, "stream"),
        ({"model": "m", "n": 0.5}, "n"),
    ],
)
def test_wrong_fields_are_named(body: JSONDict, param: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        view(Endpoint.EMBEDDINGS, JSON, dumps(body))
    assert caught.value.param == param


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        view(Endpoint.EMBEDDINGS, JSON, raw)


def test_the_model_is_spliced_into_json() -> None:
    raw = b'{"input" : [1.50, 2e3], "model":"m" , "dimensions":5}'
    assert with_model(raw, JSON, "up") == raw.replace(b'"m"', b'"up"')
    with pytest.raises(LocalProtocolError, match="twice"):
        with_model(b'{"model":"a","model":"b"}', JSON, "up")


def test_multipart_forms_are_read_and_changed_in_place() -> None:
    content_type, raw = form(model="whisper", stream="true", language="de")
    seen = view(Endpoint.TRANSCRIPTIONS, content_type, raw)
    assert (seen.model, seen.stream) == ("whisper", True)
    changed = with_model(raw, content_type, "gpt-4o-transcribe")
    assert changed == raw.replace(b"\r\n\r\nwhisper\r\n", b"\r\n\r\ngpt-4o-transcribe\r\n")
    assert view(Endpoint.TRANSCRIPTIONS, content_type, changed).model == "gpt-4o-transcribe"


def test_a_form_without_a_model_gets_one() -> None:
    content_type, raw = form(prompt="a cat")
    assert view(Endpoint.IMAGE_EDITS, content_type, raw).model is None
    changed = with_model(raw, content_type, "gpt-image")
    assert view(Endpoint.IMAGE_EDITS, content_type, changed).model == "gpt-image"
    assert changed.endswith(raw)


def test_a_file_name_cannot_pose_as_a_field() -> None:
    raw = (
        b'--b\r\nContent-Disposition: form-data; filename="; name=\\"model\\""; name="file"'
        b"\r\n\r\nx\r\n"
        b"--b\r\ncontent-disposition: form-data; name=model\r\n\r\nwhisper\r\n--b--\r\n"
    )
    assert view(Endpoint.TRANSCRIPTIONS, "multipart/form-data; boundary=b", raw).model == "whisper"


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: x; name=a"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nv\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: x; name=model\r\n\r\nv"),
        (
            'multipart/form-data; boundary="b"',
            b"--b\r\nContent-Disposition: x; name=model\r\n\r\na\r\n"
            b"--b\r\nContent-Disposition: x; name=model\r\n\r\nb\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: x; name=model; filename=m\r\n\r\na\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: x; name=a\r\n\r\na\r\n" * 300 + b"--b--",
        ),
    ],
)
def test_broken_and_ambiguous_forms_are_refused(content_type: str, raw: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        view(Endpoint.TRANSCRIPTIONS, content_type, raw)


@pytest.mark.parametrize(
    ("endpoint", "answer", "expected"),
    [
        (
            Endpoint.EMBEDDINGS,
            {"data": [{}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            Measured(usage=Usage(input=8)),
        ),
        (
            Endpoint.IMAGES,
            {
                "data": [{"b64_json": "x"}, {"b64_json": "y"}],
                "usage": {
                    "input_tokens": 10,
                    "output_tokens": 5,
                    "input_tokens_details": {"image_tokens": 6, "text_tokens": 4},
                },
            },
            Measured(usage=Usage(input=10, output=5, image_input=6), images=2),
        ),
        (
            Endpoint.TRANSCRIPTIONS,
            {
                "text": "x",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "output_tokens": 3,
                    "input_token_details": {"audio_tokens": 14},
                },
            },
            Measured(usage=Usage(input=14, output=3, audio_input=14)),
        ),
        (
            Endpoint.TRANSCRIPTIONS,
            {"text": "x", "usage": {"type": "duration", "seconds": 9}},
            Measured(audio_seconds=9.0),
        ),
        (Endpoint.TRANSLATIONS, {"text": "x", "duration": "8.5"}, Measured(audio_seconds=8.5)),
        (
            Endpoint.RERANK,
            {"results": [], "meta": {"billed_units": {"search_units": 1}}},
            Measured(search_units=1),
        ),
        (Endpoint.RERANK, {"usage": {"total_tokens": 31}}, Measured(usage=Usage(input=31))),
        (
            Endpoint.COMPLETIONS,
            {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6}},
            Measured(usage=Usage(input=4, output=6)),
        ),
        (Endpoint.MODERATIONS, {"results": []}, Measured()),
        (Endpoint.EMBEDDINGS, {"usage": {"prompt_tokens": -4}}, Measured(usage=Usage())),
        (Endpoint.TRANSCRIPTIONS, {"duration": 1e300}, Measured()),
    ],
)
def test_what_answers_say_they_used(
    endpoint: Endpoint, answer: JSONDict, expected: Measured
) -> None:
    assert measure(endpoint, "application/json; charset=utf-8", dumps(answer)) == expected


def test_sound_and_broken_answers_say_nothing() -> None:
    assert measure(Endpoint.SPEECH, "audio/mpeg", b"\xff\xfb") == Measured()
    assert measure(Endpoint.EMBEDDINGS, JSON, b"<html>") == Measured()


def test_streams_of_these_endpoints() -> None:
    meter = PassthroughMeter(Endpoint.TRANSCRIPTIONS)
    event = {"type": "transcript.text.done", "usage": {"input_tokens": 4, "output_tokens": 2}}
    for piece in (b'data: {"type":"transcript.text.delta"}\n\nda', b"ta: " + dumps(event)):
        meter.feed(piece)
    meter.close()
    assert meter.usage == Usage(input=4, output=2)
    assert meter.is_ended
    legacy = PassthroughMeter(Endpoint.COMPLETIONS)
    legacy.feed(b'data: {"choices":[{"text":"x"}]}\n\n')
    legacy.close()
    assert not legacy.is_ended
    legacy.feed(b"data: [DONE]\n\n")
    assert legacy.is_ended


def test_an_error_before_anything_else_is_no_answer() -> None:
    meter = PassthroughMeter(Endpoint.IMAGES)
    meter.feed(b'event: error\ndata: {"type":"error","error":{"message":"no","code":"x"}}\n\n')
    assert meter.fault is not None
    assert not meter.has_content
    late = PassthroughMeter(Endpoint.IMAGES)
    late.feed(
        b'data: {"type":"image_generation.partial_image"}\n\ndata: {"error":{"code":"x"}}\n\n'
    )
    late.feed(b'data: {"error":{"code":"x"}}\n\n')
    assert late.has_content
    assert late.fault is None
