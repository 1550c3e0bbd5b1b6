"""Asks real servers on this machine for their models, through the one outbound client."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.listings import UnreadableListing
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.services import register
from providers.credentials.services import store_key
from providers.errors import AddressRefused, UpstreamRedirected
from providers.inventory import services
from providers.inventory.ask import ListingFailed, facts_from, models_of
from tenants import scope
from tenants.audit.actor import Kind, acting_as
from tests.patience import LONG_SECONDS

pytestmark = pytest.mark.django_db

KEY = "sk-not-a-real-key"


class Vendor(ThreadingHTTPServer):
    """Answers with what a test put into `answers` by path; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Vendor

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.command, self.path, headers, body))
        answer = self.server.answers.get(urlsplit(self.path).path)
        if callable(answer):
            answer = answer(parse_qs(urlsplit(self.path).query))
        status, found = answer if isinstance(answer, tuple) else (200 if answer else 404, answer)
        data = json.dumps(found).encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("location", "http://192.0.2.1/")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = _answer
    do_POST = _answer


@pytest.fixture
def vendor(settings: Any) -> Iterator[Vendor]:
    server = Vendor()
    settings.UPSTREAM_ALLOWED_NETWORKS = [f"127.0.0.1:{server.server_address[1]}"]
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with acting_as(Kind.COMMAND, None, "tests"), scope.platform("tests"):
        yield server
    server.shutdown()
    thread.join(LONG_SECONDS)
    server.server_close()


def registered(catalog_id: str, url: str, *, key: str = KEY, **values: Any) -> Provider:
    provider = register(slug=catalog_id or "own", catalog_id=catalog_id, base_url=url, **values)
    if key:
        store_key(provider=provider, label="k", secret=Secret(key))
    return provider


def test_the_list_is_asked_for_with_the_key(vendor: Vendor) -> None:
    vendor.answers["/v1/models"] = {"data": [{"id": "m-1"}, {"id": "m-2"}]}
    found = models_of(registered("openai", vendor.url + "/v1"))
    assert found is not None
    assert [model.id for model in found] == ["m-1", "m-2"]
    ((method, path, headers, body),) = vendor.asked
    assert (method, path, body) == ("GET", "/v1/models", b"")
    assert headers["authorization"] == f"Bearer {KEY}"


def test_pages_are_turned(vendor: Vendor) -> None:
    def page(query: dict[str, list[str]]) -> dict[str, Any]:
        if "after_id" not in query:
            return {"data": [{"id": "m-1"}], "has_more": True, "last_id": "m-1"}
        assert query["after_id"] == ["m-1"]
        return {"data": [{"id": "m-2"}], "has_more": False}

    vendor.answers["/v1/models"] = page
    found = models_of(registered("anthropic", vendor.url))
    assert [model.id for model in found or ()] == ["m-1", "m-2"]
    for _, path, headers, _ in vendor.asked:
        assert "limit=1000" in path
        assert headers["x-api-key"] == KEY
        assert headers["anthropic-version"] == "2023-06-01"


def test_a_listing_that_never_ends_is_given_up(vendor: Vendor) -> None:
    turns = iter(range(10_000))
    vendor.answers["/models"] = lambda _: {"models": [], "nextPageToken": f"t-{next(turns)}"}
    with pytest.raises(ListingFailed, match="more than 50 pages"):
        models_of(registered("google", vendor.url))


def test_a_provider_of_ones_own_is_asked_as_its_protocol_does(vendor: Vendor) -> None:
    vendor.answers["/v1/models"] = {"data": [{"id": "claude-like"}]}
    own = registered("", vendor.url, protocol="anthropic-messages")
    assert [model.id for model in models_of(own) or ()] == ["claude-like"]
    assert vendor.asked[0][2]["anthropic-version"] == "2023-06-01"


def test_code_assist_is_asked_by_post_with_its_project(vendor: Vendor) -> None:
    vendor.answers["/v1internal:fetchAvailableModels"] = {"models": {"gemini-9": {}}}
    provider = registered("google-gemini-cli", vendor.url, endpoint={"project": "acme-prod-1"})
    assert [model.id for model in models_of(provider) or ()] == ["gemini-9"]
    method, _, _, body = vendor.asked[0]
    assert (method, json.loads(body)) == ("POST", {"project": "acme-prod-1"})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the key was refused"),
        (403, "may not list"),
        (404, "check the base URL"),
        (503, "later"),
    ],
)
def test_a_refusal_is_one_helpful_sentence(vendor: Vendor, status: int, words: str) -> None:
    vendor.answers["/models"] = (status, {"error": KEY})
    with pytest.raises(ListingFailed) as caught:
        models_of(registered("groq", vendor.url))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)


def test_redirects_are_not_followed(vendor: Vendor) -> None:
    vendor.answers["/models"] = (302, {})
    with pytest.raises(UpstreamRedirected):
        models_of(registered("groq", vendor.url))


def test_what_is_no_list_is_said_to_be_none(vendor: Vendor) -> None:
    vendor.answers["/models"] = {"hello": "world"}
    with pytest.raises(UnreadableListing):
        models_of(registered("groq", vendor.url))


def test_an_address_that_is_not_opened_is_not_dialled(vendor: Vendor, settings: Any) -> None:
    provider = registered("groq", vendor.url)
    settings.UPSTREAM_ALLOWED_NETWORKS = []
    with pytest.raises(AddressRefused):
        models_of(provider)
    assert vendor.asked == []


def test_without_a_key_nothing_is_asked(vendor: Vendor) -> None:
    with pytest.raises(ListingFailed, match="store one"):
        models_of(registered("groq", vendor.url, key=""))
    assert vendor.asked == []


def test_a_public_listing_needs_no_key(vendor: Vendor) -> None:
    vendor.answers["/api/v1/models"] = {"data": [{"id": "m"}]}
    assert models_of(registered("openrouter", vendor.url + "/api/v1", key=""))
    assert "authorization" not in vendor.asked[0][2]


def test_signed_listings_are_refused_with_a_way_out(vendor: Vendor) -> None:
    with pytest.raises(ListingFailed, match="facts file"):
        models_of(registered("amazon-bedrock", vendor.url))


def test_providers_without_a_listing(vendor: Vendor) -> None:
    assert models_of(registered("minimax", vendor.url)) is None
    assert vendor.asked == []


def test_facts_come_from_an_address_or_a_file(vendor: Vendor, tmp_path: Path) -> None:
    facts = {"acme": {"models": {"big": {"limit": {"context": 5}}}}}
    vendor.answers["/api.json"] = facts
    assert facts_from(vendor.url + "/api.json")["acme"][0].context_window == 5
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    assert facts_from(str(tmp_path / "facts.json"))["acme"][0].id == "big"


def test_the_whole_refresh(vendor: Vendor, tmp_path: Path) -> None:
    vendor.answers["/v1/models"] = {"data": [{"id": "gpt-4o", "context_window": 256_000}]}
    provider = registered("openai", vendor.url + "/v1")
    facts = {"openai": {"models": {"gpt-4o": {"cost": {"input": 2, "output": 9}}}}}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    (done,) = services.refresh_registered(facts_source=str(tmp_path / "facts.json"))
    assert (done.sources, done.written, done.problem) == (("facts", "listed"), 1, "")
    row = ProviderModel.objects.get(provider=provider)
    assert row.facts["context_window"] == 256_000
    assert (row.facts["price"]["input"], row.facts["price"]["output"]) == ("2", "9")
