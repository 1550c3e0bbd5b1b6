"""Speech: spoken from text, and heard back into it."""

from __future__ import annotations

import base64
import math
import struct
import wave
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Final

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail, require
from providers.simulator.wire.openai_bodies import EVENTS, form_of, named_event, read_body
from providers.simulator.wire.openai_chat import check_fields
from providers.simulator.world import World

_FORMATS: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
# What each format begins with, so that a listener can tell it.
_MAGIC: Final = {
    "mp3": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "opus": b"OggS\x00\x02",
    "aac": b"\xff\xf1\x50\x80",
    "flac": b"fLaC\x00\x00\x00\x22",
}
_AUDIO_FILES: Final = ("flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "ogg", "wav", "webm")
_SPOKEN: Final = "This is what a simulated listener heard."


def speech(request: Request, _world: World) -> Response:
    body = read_body(request, "model input voice instructions response_format speed stream_format")
    checks.text(body.get("model"), "model", may_be_empty=False)
    text = checks.text(body.get("input"), "input", may_be_empty=False)
    require(len(text) <= 4096, "input", "input: string too long, at most 4096 characters")
    require(body.get("voice"), "voice", "Missing required parameter: 'voice'.")
    form = checks.one_of(body.get("response_format") or "mp3", "response_format", _FORMATS)
    if body.get("speed") is not None:
        checks.number(body["speed"], "speed", 0.25, 4)
    sound = _sound(form, text)
    if body.get("stream_format") == "sse":
        encoded = base64.b64encode(sound).decode()
        tokens = {"input_tokens": len(text) // 4 + 1, "output_tokens": len(text)}
        tokens["total_tokens"] = sum(tokens.values())
        pieces = [
            named_event({"type": "speech.audio.delta", "audio": encoded}),
            named_event({"type": "speech.audio.done", "usage": tokens}),
        ]
        return Response(200, b"".join(pieces), {"content-type": EVENTS})
    return Response(200, _in_pieces(sound), {"content-type": _FORMATS[form]})


async def _in_pieces(sound: bytes) -> AsyncIterator[bytes]:
    """Sound is streamed as it is spoken."""
    for start in range(0, len(sound), 4096):
        yield sound[start : start + 4096]


def _sound(form: str, text: str) -> bytes:
    """A tone of a length that depends on the text; real in wav and pcm, marked in the others."""
    count = min(24_000, 800 * len(text.split()) + 800)
    samples = struct.pack(
        f"<{count}h", *(int(8000 * math.sin(number / 12)) for number in range(count))
    )
    if form == "pcm":
        return samples
    if form != "wav":
        return _MAGIC[form] + samples
    file = BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(24_000)
        sound.writeframes(samples)
    return file.getvalue()


_TRANSCRIPT_FIELDS: Final = frozenset(
    "file model prompt response_format temperature language languages stream include[] "
    "timestamp_granularities[] chunking_strategy keywords[] known_speaker_names[] "
    "known_speaker_references[] languages[]".split(" ")
)


def transcriptions(request: Request, _world: World) -> Response:
    return _heard(request, task="transcribe")


def translations(request: Request, _world: World) -> Response:
    return _heard(request, task="translate")


def _heard(request: Request, *, task: str) -> Response:
    parts = form_of(request)
    check_fields({part.name: "" for part in parts}, _TRANSCRIPT_FIELDS)
    file = next((part for part in parts if part.name == "file"), None)
    if file is None:
        raise fail("file", "Missing required parameter: 'file'.")
    fields = {part.name: part.content.decode("utf-8", "replace") for part in parts if part != file}
    checks.text(fields.get("model"), "model", may_be_empty=False)
    require(file.content, "file", "The audio file is empty.")
    extension = file.filename.rpartition(".")[2].lower()
    require(
        extension in _AUDIO_FILES,
        "file",
        f"Invalid file format. Supported formats: {sorted(_AUDIO_FILES)}",
    )
    form = fields.get("response_format") or "json"
    forms = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
    checks.one_of(form, "response_format", forms)
    text = f"{_SPOKEN} ({len(file.content)} bytes)"
    seconds = round(len(file.content) / 32_000, 2)
    if fields.get("stream") == "true":
        require(task == "transcribe", "stream", "Translations cannot be streamed.")
        return _hearing(text)
    return _written(form, text, seconds, fields, task)


def _written(form: str, text: str, seconds: float, fields: dict[str, str], task: str) -> Response:
    span = "00:00:00{0}000 --> 00:00:02{0}000"
    if form == "text":
        return Response(200, f"{text}\n".encode(), {"content-type": "text/plain; charset=utf-8"})
    if form == "srt":
        said = f"1\n{span.format(',')}\n{text}\n\n"
        return Response(200, said.encode(), {"content-type": "text/plain; charset=utf-8"})
    if form == "vtt":
        said = f"WEBVTT\n\n{span.format('.')}\n{text}\n\n"
        return Response(200, said.encode(), {"content-type": "text/plain; charset=utf-8"})
    usage = {"type": "duration", "seconds": math.ceil(seconds)}
    answer: JSONDict = {"text": text, "usage": usage}
    if form == "verbose_json":
        segment = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 2.0,
            "text": text,
            "tokens": [1, 2, 3],
            "temperature": 0.0,
            "avg_logprob": -0.1,
            "compression_ratio": 1.0,
            "no_speech_prob": 0.01,
        }
        language = "english" if task == "translate" else fields.get("language") or "english"
        answer |= {"task": task, "language": language, "duration": seconds, "segments": [segment]}
    elif form == "diarized_json":
        spoken = {"id": "seg_0", "type": "transcript.text.segment", "speaker": "A"}
        spoken_at = {"start": 0.0, "end": 2.0, "text": text}
        answer |= {"duration": seconds, "task": task, "segments": [{**spoken, **spoken_at}]}
    return json_response(answer)


def _hearing(text: str) -> Response:
    pieces = [
        named_event({"type": "transcript.text.delta", "delta": word if n == 0 else f" {word}"})
        for n, word in enumerate(text.split(" "))
    ]
    tokens = {"type": "tokens", "input_tokens": 14, "output_tokens": 8, "total_tokens": 22}
    pieces.append(named_event({"type": "transcript.text.done", "text": text, "usage": tokens}))
    pieces.append(b"data: [DONE]\n\n")
    return Response(200, b"".join(pieces), {"content-type": EVENTS})
