"""Asks a registration whether it works, and says in one sentence what is wrong when it does not."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.kit.errors import Fault, FaultKind, GatewayError
from controlplane.kit.secret import MASK, Secret
from providers.catalog.destinations import own_simulator
from providers.catalog.listings import FoundModel, UnreadableListing, read_page
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.credentials.pick import proxy_of
from providers.errors import (
    AddressRefused,
    NameNotFound,
    ProviderError,
    TlsFailed,
    UpstreamBroken,
    UpstreamRedirected,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from providers.health.models import FINE, Finding
from providers.health.questions import Call, Question, Questions, questions_for
from providers.oauth.refresh import USABLE
from providers.protocols import registry
from providers.protocols.canonical import Failed
from providers.upstream.client import Timeouts, UpstreamClient
from providers.upstream.pool import ClientPool

# Ten seconds to connect, thirty to begin an answer: a person waits for the button.
TIMEOUTS: Final = Timeouts(connect_seconds=10.0, first_byte_seconds=30.0, idle_seconds=20.0)
LONGEST_SECONDS: Final = 60.0
_MOST_BYTES: Final = 16 * 1024 * 1024
_LONGEST_QUOTE: Final = 160
_BY_KIND: Final = {
    FaultKind.AUTH: Finding.KEY_REFUSED,
    FaultKind.FORBIDDEN: Finding.FORBIDDEN,
    FaultKind.PAYMENT: Finding.UNPAID,
    FaultKind.RATE_LIMIT: Finding.BUSY,
    FaultKind.OVERLOADED: Finding.BUSY,
    FaultKind.NOT_FOUND: Finding.WRONG_PATH,
    FaultKind.METHOD: Finding.WRONG_PATH,
    FaultKind.TIMEOUT: Finding.TIMEOUT,
}
# A place that is not offered, as opposed to one that refuses us.
_NOT_THERE: Final = frozenset({404, 405, 410, 501})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`milliseconds` None = nothing was sent. `models` = how many the listing named."""

    finding: Finding
    sentence: str
    milliseconds: int | None = None
    models: int | None = None

    @property
    def is_ok(self) -> bool:
        return self.finding in FINE


def probe(provider: Provider, *, credential: Credential | None = None) -> Verdict:
    """By this credential, or the one that requests would try first. Not for the event loop: it
    waits, at most LONGEST_SECONDS."""
    try:
        questions = questions_for(provider, credential)
    except GatewayError as error:
        return Verdict(Finding.MISCONFIGURED, _line(error.message or str(error)))
    key = questions.key
    if questions.needs_credential and key is None:
        return Verdict(Finding.NO_CREDENTIAL, _what_is_missing(provider))
    began = time.monotonic()
    verdict = asyncio.run(_ask(provider, questions))
    elapsed = round((time.monotonic() - began) * 1000)
    sentence = verdict.sentence
    if key is not None and verdict.is_ok:
        sentence += f" Shown was {key.said}."
    return Verdict(
        verdict.finding,
        _line(_without(sentence, questions.secrets)),
        elapsed if verdict.finding is not Finding.MISCONFIGURED else None,
        verdict.models,
    )


def _what_is_missing(provider: Provider) -> str:
    logins = [row for row in provider.credentials.all() if row.kind == Credential.Kind.OAUTH]
    if any(row.state in USABLE for row in logins):
        return "Only logins of people and tenants are here, which serve them alone: test one."
    return "There is no usable credential: store one, or switch one on."


async def _ask(provider: Provider, questions: Questions) -> Verdict:
    clients = ClientPool(
        allowed=settings.UPSTREAM_ALLOWED_NETWORKS,
        allowed_for_tenants=settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS,
    )
    if opened := own_simulator(provider):
        clients.allow_for_platform(opened)
    client = clients.of(
        "tenant" if provider.tenant_id else "platform",
        provider.ca_certificate,
        proxy_of(provider, questions.key.ref if questions.key is not None else None),
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await _Interview(client, questions).verdict()
    except TimeoutError:
        return Verdict(
            Finding.TIMEOUT, f"The provider was not done within {LONGEST_SECONDS:g} seconds."
        )
    finally:
        await clients.close()


@dataclass(slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Interview:
    client: UpstreamClient
    questions: Questions

    async def verdict(self) -> Verdict:
        asked = self.questions
        if asked.key_check is not None and asked.needs_credential:
            return await self._check_key(asked.key_check)
        listed: Verdict | None = None
        if asked.listing is not None and not (
            asked.is_listing_public and asked.needs_credential and asked.call is not None
        ):
            listed = await self._list(asked.listing)
            if listed.finding not in {Finding.REACHABLE, Finding.WRONG_PATH}:
                return listed
        if asked.call is not None:
            called = await self._call(asked.call)
            if listed is not None and listed.models is not None:
                return Verdict(called.finding, called.sentence, None, listed.models)
            return called
        if listed is not None:
            return listed
        return Verdict(
            Finding.MISCONFIGURED,
            "There is neither a list to ask for nor a model to try: add a model.",
        )

    async def _check_key(self, question: Question) -> Verdict:
        answer = await self._send(question)
        if isinstance(answer, Verdict):
            return answer
        if answer.status >= 300:
            return self._refused(question, answer)
        return Verdict(Finding.WORKS, f"{_host(question)} knows the key.")

    async def _list(self, question: Question) -> Verdict:
        answer = await self._send(question)
        if isinstance(answer, Verdict):
            return answer
        if answer.status >= 300:
            return self._refused(question, answer)
        try:
            models = read_page(self.questions.shape, answer.body).models
        except UnreadableListing as error:
            return Verdict(
                Finding.WRONG_PROTOCOL,
                f"{_host(question)} answers, but not as {self.questions.protocol} does: choose "
                f"another protocol, or correct the path of the base URL. {error}",
            )
        said = f"{_host(question)} lists {len(models)} model{'' if len(models) == 1 else 's'}"
        if not self.questions.needs_credential or await self._proves_key(question):
            return Verdict(Finding.WORKS, f"{said}{self._missing(models)}.", None, len(models))
        return Verdict(
            Finding.REACHABLE,
            f"{said}, and does so without a key: whether the key is good was not shown.",
            None,
            len(models),
        )

    async def _proves_key(self, question: Question) -> bool:
        """Whether the same list is refused to whom shows no key."""
        if self.questions.is_listing_public is not None:
            return not self.questions.is_listing_public
        bare = Question(question.method, question.url, question.open_headers, {}, question.body)
        answer = await self._send(bare)
        return not isinstance(answer, Verdict) and answer.status in {400, 401, 403}

    async def _call(self, call: Call) -> Verdict:
        question = call.question
        answer = await self._send(question)
        if isinstance(answer, Verdict):
            return answer
        model = call.spec.id
        if answer.status >= 300:
            return self._refused(question, answer, model=model)
        codec = registry.upstream(call.spec.protocol)
        try:
            if call.call.stream:
                decoder = codec.stream_decoder(call.call.restore, call.spec)
                events = [*decoder.feed(answer.body), *decoder.close()]
            else:
                events = codec.decode_answer(answer.body, call.call.restore, call.spec)
        except GatewayError:
            return Verdict(
                Finding.WRONG_PROTOCOL,
                f"{_host(question)} answers, but not as {call.spec.protocol} does: choose another "
                "protocol, or correct the path of the base URL.",
            )
        last = events[-1] if events else None
        if isinstance(last, Failed):
            return self._judged(question, last.fault, 200, model=model)
        return Verdict(Finding.WORKS, f"{_host(question)} answered as {model!r}.")

    def _missing(self, models: tuple[FoundModel, ...]) -> str:
        """Whether the model we would call is among those named. A list may be cut by pages, so
        this is worth a word and no more."""
        call = self.questions.call
        if call is None or not models or any(model.id == call.spec.id for model in models):
            return ""
        return f"; {call.spec.id!r} is not among the first of them"

    def _refused(self, question: Question, answer: _Answer, *, model: str = "") -> Verdict:
        codec = registry.upstream(self.questions.protocol)
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        fault = codec.decode_error(answer.status, lowered, answer.body)
        return self._judged(question, fault, answer.status, model=model)

    def _judged(self, question: Question, fault: Fault, status: int, *, model: str = "") -> Verdict:
        host, path = _host(question), urlsplit(question.url).path or "/"
        said = _quoted(fault.message)
        finding = _BY_KIND.get(fault.kind)
        if status in _NOT_THERE:
            finding = Finding.WRONG_PATH
        elif status == 400 and _blames_key(fault):
            finding = Finding.KEY_REFUSED
        elif finding is None:
            finding = Finding.UPSTREAM_ERROR if status >= 500 else Finding.BAD_REQUEST
        may_be_model = model and finding in {Finding.WRONG_PATH, Finding.BAD_REQUEST}
        if may_be_model and _blames_model(fault, model):
            finding = Finding.MODEL_MISSING
        key = self.questions.key
        label = key.said if key is not None else "the credential"
        sentences = {
            Finding.KEY_REFUSED: f"{host} refuses the key ({status}): check {label} or store a "
            "new secret.",
            Finding.FORBIDDEN: f"{host} knows the key but does not allow this ({status}): check "
            f"the rights of {label}.{said}",
            Finding.UNPAID: f"{host} wants to be paid first ({status}): check the account's "
            f"credit or plan.{said}",
            Finding.BUSY: f"{host} can be reached and is over a limit now ({status}).{said}",
            Finding.WRONG_PATH: f"{host} knows nothing at {path} ({status}): correct the path of "
            "the base URL; servers that speak like OpenAI usually want /v1 at its end.",
            Finding.MODEL_MISSING: f"{host} has no model {model!r} for this key ({status}): "
            f"correct the model's name, or refresh the models.{said}",
            Finding.BAD_REQUEST: f"{host} refuses the smallest request ({status}).{said}",
            Finding.UPSTREAM_ERROR: f"{host} failed by itself ({status}): try again later.{said}",
            Finding.TIMEOUT: f"{host} gave up waiting ({status}): try again later.{said}",
        }
        return Verdict(finding, sentences[finding])

    async def _send(self, question: Question) -> _Answer | Verdict:
        try:
            response = await self.client.send(
                question.method,
                question.url,
                headers=question.headers,
                body=question.body,
                timeouts=TIMEOUTS,
            )
            try:
                body = await response.read(_MOST_BYTES)
            finally:
                response.close()
        except ProviderError as error:
            return _unanswered(question, error)
        return _Answer(response.status, response.headers, body)


def _unanswered(question: Question, error: ProviderError) -> Verdict:
    host = _host(question)
    match error:
        case AddressRefused():
            return Verdict(Finding.ADDRESS_REFUSED, error.message)
        case NameNotFound():
            return Verdict(
                Finding.NAME_UNKNOWN,
                f"The name {host} cannot be resolved: check its spelling in the base URL.",
            )
        case TlsFailed():
            return Verdict(
                Finding.TLS,
                f"No trusted TLS connection with {host}: check the host, or give the certificate "
                "of the authority that vouches for it.",
            )
        case UpstreamRedirected():
            return Verdict(
                Finding.REDIRECTED,
                f"{host} answers with a redirect, which is never followed: use the address it "
                "leads to as base URL.",
            )
        case UpstreamTimeout():
            return Verdict(
                Finding.TIMEOUT,
                f"{host} did not answer in time: check host and port, or try again later.",
            )
        case UpstreamUnreachable():
            return Verdict(
                Finding.UNREACHABLE,
                f"{host} refuses the connection: check host and port, and that the server runs.",
            )
        case UpstreamTooLarge() | UpstreamBroken():
            return Verdict(
                Finding.BROKEN,
                f"{host} takes connections but does not answer as an HTTP server should: check "
                "the port, and whether it is https:// or http://.",
            )
    return Verdict(Finding.UPSTREAM_ERROR, error.message)


def _blames_key(fault: Fault) -> bool:
    # Gemini answers 400 to a wrong key.
    text = f"{fault.code} {fault.upstream_code} {fault.message}".lower()
    return any(
        words in text
        for words in ("api_key_invalid", "api key not valid", "invalid api key", "invalid_api_key")
    )


def _blames_model(fault: Fault, model: str) -> bool:
    text = f"{fault.code} {fault.upstream_code} {fault.message}".lower()
    if re.search(rf"(?<![\w-]){re.escape(model.lower())}(?![\w-])", text):
        return True
    return "model" in text and any(
        words in text for words in ("not found", "not exist", "not_found", "unknown", "no such")
    )


def _host(question: Question) -> str:
    return urlsplit(question.url).netloc


def _quoted(message: str) -> str:
    text = " ".join(message.split())
    if not text:
        return ""
    cut = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
    return f" It says: {cut}"


def _without(text: str, secrets: tuple[Secret, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret.reveal(), MASK)
    return text


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 500 else line[:499] + "…"
