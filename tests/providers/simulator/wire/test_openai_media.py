"""OpenAI beside conversations: the official client for every operation, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import math
import wave
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from providers.simulator.scenarios import PIXEL
from tests.providers.simulator.raw_http import Answer, ask
from tests.providers.simulator.wire.sdk import ERRORS, openai_client
from tests.simulator_server import SimulatorServer

BASE = "/openai/v1"
SOUND = ("speech.wav", b"RIFF" + b"\x00" * 64_000, "audio/wav")
PNG = ("a.png", base64.b64decode(PIXEL), "image/png")


@pytest.fixture
def client(simulator: SimulatorServer) -> Iterator[openai.OpenAI]:
    with openai_client(simulator) as made:
        yield made


def post(simulator: SimulatorServer, path: str, body: Any) -> Answer:
    return ask(simulator.url, f"{BASE}{path}", body)


# --- models --------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"sim-gpt", "sim-embedding"} <= set(names)
    assert client.models.retrieve("sim-gpt").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


# --- embeddings ----------------------------------------------------------------------------------


def test_embeddings_are_unit_vectors_of_their_text(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="sim-embedding", input=["a", "b", "a"])
    vectors = [entry.embedding for entry in answer.data]
    assert [len(vector) for vector in vectors] == [1536] * 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert math.isclose(sum(number**2 for number in vectors[0]), 1, rel_tol=1e-5)
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("given", ["text", [1, 2, 3], [[1, 2], [3]]])
def test_embeddings_take_text_and_tokens(client: openai.OpenAI, given: Any) -> None:
    answer = client.embeddings.create(
        model="sim-embedding", input=given, dimensions=8, encoding_format="float"
    )
    assert len(answer.data) == (2 if given == [[1, 2], [3]] else 1)
    assert len(answer.data[0].embedding) == 8


# --- images --------------------------------------------------------------------------------------


def test_images_are_drawn_and_changed(client: openai.OpenAI) -> None:
    drawn = client.images.generate(model="sim-image", prompt="a cat", n=2)
    assert [image.b64_json for image in drawn.data or []] == [PIXEL, PIXEL]
    assert drawn.usage is not None
    changed = client.images.edit(model="sim-image", prompt="a hat", image=[PNG, PNG])
    assert changed.usage is not None
    assert changed.usage.input_tokens_details.image_tokens == 128
    linked = client.images.generate(model="sim-image", prompt="x", response_format="url")
    assert (linked.data or [])[0].url


def test_images_are_streamed_with_sketches(client: openai.OpenAI) -> None:
    kinds = [
        event.type
        for event in client.images.generate(
            model="sim-image", prompt="x", stream=True, partial_images=2
        )
    ]
    assert kinds == [*["image_generation.partial_image"] * 2, "image_generation.completed"]


# --- audio ---------------------------------------------------------------------------------------


def test_speech_is_sound(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "sim-tts", "voice": "alloy", "input": "hello there"}
    spoken = client.audio.speech.create(**asked, response_format="wav").content
    with wave.open(io.BytesIO(spoken)) as sound:
        assert sound.getframerate() == 24_000
        assert sound.getnframes() == 2400
    assert client.audio.speech.create(**asked).content.startswith(b"ID3")
    with client.audio.speech.with_streaming_response.create(
        **asked, response_format="pcm"
    ) as stream:
        assert sum(len(piece) for piece in stream.iter_bytes()) == 4800


def test_speech_is_heard(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="sim-whisper", file=SOUND)
    assert "64004 bytes" in heard.text
    verbose = client.audio.transcriptions.create(
        model="sim-whisper",
        file=SOUND,
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )
    assert (verbose.duration, len(verbose.segments or [])) == (2.0, 1)
    for form, begins in (("text", "This"), ("srt", "1\n"), ("vtt", "WEBVTT")):
        written = client.audio.transcriptions.create(
            model="sim-whisper", file=SOUND, response_format=form
        )
        assert written.startswith(begins)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        translated = client.audio.translations.create(model="sim-whisper", file=SOUND)
    assert translated.text == heard.text
    deltas = [
        event.delta
        for event in client.audio.transcriptions.create(
            model="sim-whisper", file=SOUND, stream=True
        )
        if event.type == "transcript.text.delta"
    ]
    assert "".join(deltas) == heard.text


# --- moderation and rerank -----------------------------------------------------------------------


def test_moderation_judges(client: openai.OpenAI) -> None:
    answer = client.moderations.create(input=["hello", "pure violence"])
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence
    assert answer.results[1].category_scores.violence > 0.9
    parts: Any = [{"type": "text", "text": "violence"}]
    assert len(client.moderations.create(input=parts).results) == 1


def test_rerank_puts_the_likest_first(simulator: SimulatorServer) -> None:
    documents = ["a dog", {"text": "the red fox runs"}, "a red car"]
    body = {"model": "sim-rerank", "query": "red fox", "documents": documents, "top_n": 2}
    answer = post(simulator, "/rerank", {**body, "return_documents": True}).json()
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [(1, 1.0), (2, 0.5)]
    assert answer["results"][0]["document"] == {"text": "the red fox runs"}


# --- completions before there were messages ------------------------------------------------------


def test_legacy_completions(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "sim-instruct+text+tokens=4", "prompt": ["x", "y"], "n": 2}
    whole = client.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert {choice.text for choice in whole.choices} == {"the quick answer is"}
    texts = dict.fromkeys(range(4), "")
    usage = None
    for chunk in client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert set(texts.values()) == {"the quick answer is"}
    assert usage == whole.usage


def test_legacy_completions_stop_early_and_may_repeat_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="sim-instruct+text", prompt="Say: ", echo=True)
    assert answer.choices[0].text.startswith("Say: the quick")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


# --- files and batches ---------------------------------------------------------------------------


def line(custom_id: str, **fields: Any) -> str:
    body = {"model": "sim-gpt", "messages": [{"role": "user", "content": custom_id}], **fields}
    url = "/v1/chat/completions"
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def test_files_are_kept(client: openai.OpenAI) -> None:
    made = client.files.create(file=("a.jsonl", b'{"a": 1}\r\n\x00\xff'), purpose="user_data")
    assert client.files.retrieve(made.id).bytes == 12
    assert client.files.content(made.id).content == b'{"a": 1}\r\n\x00\xff'
    assert [file.id for file in client.files.list(purpose="user_data")] == [made.id]
    assert list(client.files.list(purpose="batch")) == []
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_a_batch_is_answered_later(simulator: SimulatorServer, client: openai.OpenAI) -> None:
    simulator.world.set_clock(datetime(2026, 1, 1, tzinfo=UTC))
    content = "\n".join([line("one"), line("two", temperature=9), "no json", line("four")])
    file = client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert batch.status == "validating"
    simulator.world.advance(1)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    simulator.world.advance(10)
    done = client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (2, 2)
    answers = client.files.content(done.output_file_id or "").text.splitlines()
    said = {
        entry["custom_id"]: entry["response"]["body"]["choices"][0]["message"]["content"]
        for entry in map(json.loads, answers)
    }
    assert said == {"one": "You said: one", "four": "You said: four"}
    refused = [
        json.loads(text)
        for text in client.files.content(done.error_file_id or "").text.splitlines()
    ]
    assert [entry["response"]["status_code"] for entry in refused] == [400, 400]
    assert simulator.rules() == ["range", "json"]
    assert [listed.id for listed in client.batches.list()] == [batch.id]
    # Looked at again, it is the same.
    assert client.batches.retrieve(batch.id).output_file_id == done.output_file_id


def test_a_batch_is_cancelled(simulator: SimulatorServer, client: openai.OpenAI) -> None:
    simulator.world.set_clock(datetime(2026, 1, 1, tzinfo=UTC))
    file = client.files.create(file=("in.jsonl", line("one").encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.cancel(batch.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_unknown")


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "name"), ERRORS.items())
def test_errors_are_the_clients_own(client: openai.OpenAI, status: int, name: str) -> None:
    with pytest.raises(getattr(openai, name)):
        client.embeddings.create(model=f"sim-embedding+status={status}", input="x")
    with pytest.raises(getattr(openai, name)):
        client.audio.transcriptions.create(model=f"sim-whisper+status={status}", file=SOUND)


async def test_the_asynchronous_client(simulator: SimulatorServer) -> None:
    base = f"{simulator.url}{BASE}"
    async with openai.AsyncOpenAI(base_url=base, api_key="sk", max_retries=0) as client:
        assert (await client.embeddings.create(model="sim-embedding", input="x")).data
        assert (await client.images.generate(model="sim-image", prompt="x")).data
        heard = await client.audio.transcriptions.create(model="sim-whisper", file=SOUND)
        assert heard.text
        names = [model.id async for model in client.models.list()]
        assert "sim-gpt" in names


EMBED = {"model": "sim-embedding", "input": "x"}
DRAW = {"model": "sim-image", "prompt": "x"}
SPEAK = {"model": "sim-tts", "input": "x", "voice": "alloy"}
RANK = {"model": "sim-rerank", "query": "x", "documents": ["y"]}
OLD = {"model": "sim-instruct", "prompt": "x"}
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": "x"}
BREAKERS: list[tuple[str, str, Any]] = [
    ("json", "/embeddings", b"{"),
    ("type", "/embeddings", []),
    ("unknown_field", "/embeddings", {**EMBED, "stream": True}),
    ("type", "/embeddings", {"input": "x"}),
    ("type", "/embeddings", {"model": "sim-embedding"}),
    ("empty_input", "/embeddings", {**EMBED, "input": []}),
    ("empty_input", "/embeddings", {**EMBED, "input": [""]}),
    ("type", "/embeddings", {**EMBED, "input": [{}]}),
    ("inputs", "/embeddings", {**EMBED, "input": ["x"] * 2049}),
    ("range", "/embeddings", {**EMBED, "dimensions": 0}),
    ("enum", "/embeddings", {**EMBED, "encoding_format": "hex"}),
    ("empty_text", "/images/generations", {**DRAW, "prompt": " "}),
    ("range", "/images/generations", {**DRAW, "n": 11}),
    ("enum", "/images/generations", {**DRAW, "output_format": "tiff"}),
    ("unknown_field", "/images/generations", {**DRAW, "steps": 5}),
    ("multipart", "/images/edits", DRAW),
    ("unknown_field", "/audio/speech", {**SPEAK, "pitch": 2}),
    ("voice", "/audio/speech", {**SPEAK, "voice": None}),
    ("input", "/audio/speech", {**SPEAK, "input": "x" * 4097}),
    ("enum", "/audio/speech", {**SPEAK, "response_format": "midi"}),
    ("range", "/audio/speech", {**SPEAK, "speed": 5}),
    ("multipart", "/audio/transcriptions", {"model": "sim-whisper"}),
    ("multipart", "/audio/translations", {"model": "sim-whisper"}),
    ("empty_input", "/moderations", {"input": []}),
    ("unknown_field", "/moderations", {"input": "x", "user": "y"}),
    ("documents", "/rerank", {**RANK, "documents": []}),
    ("type", "/rerank", {**RANK, "documents": [5]}),
    ("range", "/rerank", {**RANK, "top_n": 0}),
    ("unknown_field", "/completions", {**OLD, "messages": []}),
    ("range", "/completions", {**OLD, "logprobs": 6}),
    ("range", "/completions", {**OLD, "max_tokens": -1}),
    ("best_of", "/completions", {**OLD, "n": 3, "best_of": 2}),
    ("best_of", "/completions", {**OLD, "best_of": 2, "stream": True}),
    ("prompt", "/completions", {**OLD, "prompt": []}),
    ("multipart", "/files", {"purpose": "batch"}),
    ("input_file", "/batches", BATCH),
    ("enum", "/batches", {**BATCH, "endpoint": "/v1/elsewhere"}),
    ("enum", "/batches", {**BATCH, "completion_window": "1h"}),
]


@pytest.mark.parametrize(("rule", "path", "body"), BREAKERS)
def test_every_rule_has_a_breaker(
    simulator: SimulatorServer, rule: str, path: str, body: Any
) -> None:
    answer = post(simulator, path, body)
    assert (answer.status, simulator.rules()) == (400, [rule])
    assert answer.json()["error"]["type"] == "invalid_request_error"


def form(*fields: tuple[str, bytes], closing: bytes = b"--xx--\r\n") -> dict[str, Any]:
    parts = b"".join(
        b"--xx\r\ncontent-disposition: form-data; "
        + head.encode()
        + b"\r\n\r\n"
        + content
        + b"\r\n"
        for head, content in fields
    )
    return {"body": parts + closing, "content_type": "multipart/form-data; boundary=xx"}


MODEL = ('name="model"', b"sim-whisper")
FILE = ('name="file"; filename="a.mp3"', b"sound")
FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("file", "/audio/transcriptions", form(MODEL)),
    ("type", "/audio/transcriptions", form(FILE)),
    ("file", "/audio/transcriptions", form(MODEL, (FILE[0], b""))),
    ("file", "/audio/transcriptions", form(MODEL, ('name="file"; filename="a.txt"', b"x"))),
    ("unknown_field", "/audio/transcriptions", form(MODEL, FILE, ('name="pitch"', b"1"))),
    ("enum", "/audio/transcriptions", form(MODEL, FILE, ('name="response_format"', b"pdf"))),
    ("stream", "/audio/translations", form(MODEL, FILE, ('name="stream"', b"true"))),
    ("multipart", "/audio/transcriptions", form(MODEL, FILE, closing=b"")),
    ("multipart", "/audio/transcriptions", form(("x", b"y"))),
    ("image", "/images/edits", form(('name="prompt"', b"x"))),
    ("range", "/images/edits", form(('name="image"; filename="a"', b"x"), ('name="n"', b"many"))),
    ("file", "/files", form(('name="purpose"', b"batch"))),
    ("enum", "/files", form(FILE, ('name="purpose"', b"fun"))),
]


@pytest.mark.parametrize(("rule", "path", "sent"), FORMS)
def test_every_rule_of_a_form_has_a_breaker(
    simulator: SimulatorServer, rule: str, path: str, sent: dict[str, Any]
) -> None:
    content_type = sent["content_type"]
    answer = ask(simulator.url, f"{BASE}{path}", sent["body"], content_type=content_type)
    assert (answer.status, simulator.rules()) == (400, [rule])
