"""Endpoints beside conversations: official SDKs in front, simulated vendors behind, both lanes."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from google import genai
from google.genai import types

from controlplane.kit.secret import Secret
from controlplane.proxy import attempt
from controlplane.proxy.exchange import Exchange
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tests.controlplane.proxy.conftest import Gateway
from tests.running import served

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64


class Careless:
    """A vendor that says 200 to anything, with a page; and stops speaking in the middle."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        is_speech = scope["path"].endswith("/audio/speech")
        kind = b"audio/mpeg" if is_speech else b"text/html"
        headers = [(b"content-type", kind), (b"set-cookie", b"a=b")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ID3 sound", "more_body": is_speech})
        # An answer that is not finished: the server closes the connection.


@pytest.fixture(scope="module")
def registry(registry: dict[str, Any], simulated: tuple[str, Any]) -> Iterator[dict[str, Any]]:
    """Beside the vendors of every test: models that are not for conversations."""
    with served(Careless(), lifespan="off") as careless:
        with acting_as("command", None, "tests", ""), scope.platform("tests"):
            media = services.register(
                slug="media", catalog_id="simulator", endpoint={"origin": simulated[0]}
            )
            bad = services.register(
                slug="careless", protocol="openai-completions", base_url=careless
            )
            for made in (media, bad):
                store_key(provider=made, label="one", secret=Secret("sim-media"))
            services.add_model(provider=bad, upstream_id="careless")
            for name in ("sim-rerank", "sim-instruct"):
                services.add_model(provider=media, upstream_id=name)
            services.add_model(
                provider=media,
                upstream_id="gemini-embedding-001",
                protocol="google-generative-ai",
            )
        yield {**registry, "media": media}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def speech() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(struct.pack("<800h", *([0] * 800)))
    return file.getvalue()


def test_embeddings(client: openai.OpenAI) -> None:
    for model in ("sim-embedding", "media/sim-embedding"):
        made = client.embeddings.create(model=model, input=["one", "two"])
        assert len(made.data) == 2
        assert made.usage.prompt_tokens == 2


def test_images_are_drawn_and_changed(client: openai.OpenAI) -> None:
    drawn = client.images.generate(model="sim-image", prompt="a cat", n=2)
    assert drawn.data is not None
    assert len(drawn.data) == 2
    edited = client.images.edit(
        model="media/sim-image", prompt="a hat", image=("cat.png", PNG, "image/png")
    )
    assert edited.data is not None
    assert edited.data[0].b64_json


def test_images_stream(client: openai.OpenAI) -> None:
    events = list(client.images.generate(model="sim-image", prompt="a cat", stream=True))
    assert events[-1].type == "image_generation.completed"


def test_speech_is_sound_as_it_is_spoken(client: openai.OpenAI, gateway: Gateway) -> None:
    spoken = client.audio.speech.create(
        model="sim-tts", voice="alloy", input="Hello there", response_format="wav"
    )
    assert spoken.content.startswith(b"RIFF")
    assert spoken.response.headers["content-type"] == "audio/wav"
    assert spoken.response.headers["x-content-type-options"] == "nosniff"


def test_sound_is_heard(client: openai.OpenAI) -> None:
    file = ("said.wav", speech(), "audio/wav")
    heard = client.audio.transcriptions.create(model="media/sim-whisper", file=file)
    assert heard.text
    plain = client.audio.transcriptions.create(
        model="sim-whisper", file=file, response_format="text"
    )
    assert heard.text in str(plain)
    with pytest.deprecated_call():
        translated = client.audio.translations.create(model="sim-whisper", file=file)
    assert translated.text
    events = list(client.audio.transcriptions.create(model="sim-whisper", file=file, stream=True))
    assert events[-1].type == "transcript.text.done"


def test_moderation_and_its_default(client: openai.OpenAI) -> None:
    judged = client.moderations.create(model="sim-moderation", input="violence everywhere")
    assert judged.results[0].flagged
    # Nobody here serves OpenAI's own default: that is a 404 which names it.
    with pytest.raises(openai.NotFoundError, match="omni-moderation-latest"):
        client.moderations.create(input="hello")


def test_rerank(gateway: Gateway) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/rerank",
        headers=gateway.headers(),
        json={"model": "sim-rerank", "query": "red cat", "documents": ["a dog", "a red cat"]},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["index"] == 1


def test_legacy_completions(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="media/sim-gpt", prompt="Hello")
    assert whole.choices[0].text
    assert whole.usage is not None
    pieces = list(client.completions.create(model="sim-gpt", prompt="Hello", stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    # We ask for the usage; a client that did not never sees the chunk without choices.
    assert all(piece.choices for piece in pieces)
    counted = list(
        client.completions.create(
            model="sim-gpt", prompt="Hello", stream=True, stream_options={"include_usage": True}
        )
    )
    assert counted[-1].usage is not None


def test_gemini_embeddings(gateway: Gateway) -> None:
    client = genai.Client(
        api_key=gateway.key, http_options=types.HttpOptions(base_url=f"{gateway.url}/genai")
    )
    for model in ("gemini-embedding-001", "media/gemini-embedding-001"):
        made = client.models.embed_content(model=model, contents=["one", "two"])
        assert made.embeddings is not None
        assert len(made.embeddings) == 2
    one = httpx.post(
        f"{gateway.url}/v1beta/models/gemini-embedding-001:embedContent",
        headers={"x-goog-api-key": gateway.key},
        json={"model": "models/whatever", "content": {"parts": [{"text": "one"}]}},
    )
    assert one.status_code == 200, one.text
    assert one.json()["embedding"]["values"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("embeddings", {"model": "sim-claude", "input": "x"}, 400),
        ("completions", {"model": "sim-claude", "prompt": "x"}, 400),
        ("embeddings", {"model": "nobody", "input": "x"}, 404),
        ("embeddings", {"input": "x"}, 400),
        ("images/generations", {"prompt": "x"}, 400),
        ("embeddings", {"model": 5, "input": "x"}, 400),
        ("embeddings", {"model": "sim-embedding", "input": []}, 400),
        ("audio/transcriptions", {"model": "sim-whisper"}, 400),
    ],
)
def test_what_cannot_be_is_said_clearly(
    gateway: Gateway, path: str, body: dict[str, Any], status: int
) -> None:
    answer = httpx.post(f"{gateway.url}/v1/{path}", headers=gateway.headers(), json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_broken_forms_are_the_callers_fault(gateway: Gateway) -> None:
    for kind, body in (
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\nv\r\n--b--"),
        ("multipart/form-data; boundary=b", b""),
    ):
        answer = httpx.post(
            f"{gateway.url}/v1/audio/transcriptions",
            headers=gateway.headers(**{"Content-Type": kind}),
            content=body,
        )
        assert answer.status_code == 400, answer.text
    assert not gateway.world.requests


def test_a_page_is_no_answer(gateway: Gateway) -> None:
    for path, body in (
        ("embeddings", {"input": "x"}),
        ("audio/transcriptions", {}),
        ("images/generations", {"prompt": "x"}),
    ):
        answer = httpx.post(
            f"{gateway.url}/v1/{path}",
            headers=gateway.headers(),
            json={"model": "careless/careless", **body},
        )
        assert answer.status_code == 502, answer.text
        assert "set-cookie" not in answer.headers


def test_sound_that_breaks_off_does_not_end_like_all_of_it(gateway: Gateway) -> None:
    body = {"model": "careless/careless", "input": "Hello", "voice": "alloy"}
    url = f"{gateway.url}/v1/audio/speech"
    with httpx.stream("POST", url, headers=gateway.headers(), json=body) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw()
        assert next(pieces) == b"ID3 sound"
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)


def test_forms_may_be_larger_than_other_bodies(gateway: Gateway) -> None:
    megabytes = b"\x00" * (33 * 2**20)
    answer = httpx.post(
        f"{gateway.url}/v1/audio/transcriptions",
        headers=gateway.headers(),
        data={"model": "nobody"},
        files={"file": ("long.wav", megabytes, "audio/wav")},
    )
    assert answer.status_code == 404, answer.text
    answer = httpx.post(
        f"{gateway.url}/v1/embeddings",
        headers=gateway.headers(**{"Content-Type": "application/json"}),
        content=megabytes,
    )
    assert answer.status_code == 413, answer.text


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    found: list[Exchange] = []
    really = attempt.first_answer

    async def first_answer(exchange: Exchange, *arguments: Any) -> Any:
        found.append(exchange)
        return await really(exchange, *arguments)

    monkeypatch.setattr(attempt, "first_answer", first_answer)
    return found


def test_what_was_used_is_read_out(client: openai.OpenAI, exchanges: list[Exchange]) -> None:
    client.embeddings.create(model="sim-embedding", input="one two three four")
    client.images.generate(model="sim-image", prompt="a cat", n=2)
    list(client.images.generate(model="sim-image", prompt="a cat", stream=True))
    list(client.completions.create(model="sim-gpt", prompt="Hello", stream=True))
    client.audio.speech.create(model="sim-tts", voice="alloy", input="Hello")
    embedded, drawn, streamed, completed, spoken = [exchange.seen for exchange in exchanges]
    assert embedded.usage is not None
    assert embedded.usage.input == 4
    assert drawn.measured is not None
    assert drawn.measured.images == 2
    assert streamed.usage is not None
    assert completed.usage is not None
    assert completed.usage.output > 0
    assert spoken.usage is None, "sound says nothing: unknown, never 0"
    assert all(exchange.seen.is_whole for exchange in exchanges)
