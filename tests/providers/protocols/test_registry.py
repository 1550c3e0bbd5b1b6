"""Slug to codec: lazily, completely, and open to installed packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from providers.protocols import registry
from providers.protocols.codec import ClientCall
from providers.protocols.registry import BUILT_IN, UnknownProtocol

DIALECTS = {
    "openai-completions",
    "openai-responses",
    "anthropic-messages",
    "google-generative-ai",
}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    registry.forget()
    yield
    registry.forget()


def test_every_slug_is_the_name_of_its_module() -> None:
    for slug, module in BUILT_IN.items():
        assert module == "providers.protocols." + slug.replace("-", "_")
    assert registry.slugs() == tuple(sorted(BUILT_IN))


@pytest.mark.parametrize("slug", sorted(BUILT_IN))
def test_every_protocol_is_spoken_to_a_vendor(slug: str) -> None:
    assert registry.upstream(slug).slug == slug
    assert registry.upstream(slug) is import_module(BUILT_IN[slug]).CODEC


@pytest.mark.parametrize("slug", sorted(DIALECTS))
def test_the_dialects_of_our_clients(slug: str) -> None:
    assert registry.client(slug).slug == slug
    assert registry.relay(slug) is registry.relay_for(slug, slug)


@pytest.mark.parametrize("slug", sorted(set(BUILT_IN) - DIALECTS))
def test_other_protocols_are_no_dialects(slug: str) -> None:
    with pytest.raises(UnknownProtocol, match="not a dialect"):
        registry.client(slug)


def test_what_is_relayed_where() -> None:
    assert registry.relay_for("google-generative-ai", "google-vertex") is registry.relay(
        "google-vertex"
    )
    assert registry.relay_for("google-vertex", "google-vertex") is None
    assert registry.relay_for("google-generative-ai", "google-gemini-cli") is None
    assert registry.relay_for("openai-completions", "mistral-conversations") is None
    assert registry.relay_for("anthropic-messages", "google-generative-ai") is None
    with pytest.raises(UnknownProtocol, match="cannot be relayed"):
        registry.relay("mistral-conversations")


def test_counting() -> None:
    assert registry.counter("google-generative-ai").encode_count(3)["totalTokens"] == 3
    with pytest.raises(UnknownProtocol, match="no way to count"):
        registry.counter("mistral-conversations")


@pytest.mark.parametrize("slug", ["", "openai", "x" * 500])
def test_an_unknown_slug_says_what_there_is(slug: str) -> None:
    with pytest.raises(UnknownProtocol) as caught:
        registry.upstream(slug)
    assert "google-vertex" in caught.value.message
    assert registry.GROUP in caught.value.message
    assert len(caught.value.message) < 800


def test_importing_the_registry_loads_no_protocol() -> None:
    code = (
        "import sys, providers.protocols.registry as r; r.slugs();"
        "loaded = [m for m in sys.modules if m in set(r.BUILT_IN.values())];"
        "assert not loaded, loaded;"
        "r.upstream('mistral-conversations');"
        "assert not any('anthropic' in m or 'django' in m or 'httpx' in m for m in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


# --- installed packages --------------------------------------------------------------------


def install(folder: Path, name: str, slug: str, mark: str) -> None:
    """A distribution as pip would leave it: a module and its metadata."""
    folder.mkdir()
    module = f"proto_{name}"
    (folder / f"{module}.py").write_text(
        "class Codec:\n"
        f"    slug = {slug!r}\n"
        f"    mark = {mark!r}\n"
        "    stream_media_type = 'text/event-stream'\n"
        "    relays = frozenset({'openai-completions'})\n"
        "    def encode_request(self, request, model, *, request_id): ...\n"
        "    def decode_answer(self, body, restore, model): ...\n"
        "    def stream_decoder(self, restore, model): ...\n"
        "    def decode_error(self, status, headers, body): ...\n"
        "    def relay_request(self, raw, body, model, *, stream): ...\n"
        "    def stream_meter(self, model): ...\n"
        "    def answer_usage(self, body): ...\n"
        "CODEC = Codec()\n"
    )
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{slug} = {module}:CODEC\n")


def mark_of(slug: str) -> str:
    found: str = registry.codec(slug).mark
    return found


def test_an_installed_package_adds_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "one", "acme", "acme-wire", "acme")
    monkeypatch.syspath_prepend(tmp_path / "one")
    registry.forget()
    assert "acme-wire" in registry.slugs()
    assert registry.upstream("acme-wire").slug == "acme-wire"
    assert mark_of("acme-wire") == "acme"
    assert registry.relay_for("openai-completions", "acme-wire") is not None
    assert registry.relay_for("acme-wire", "acme-wire") is None
    with pytest.raises(UnknownProtocol, match="not a dialect"):
        registry.client("acme-wire")


def test_an_installed_package_replaces_one_of_ours_and_the_last_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "one", "first", "google-vertex", "first")
    install(tmp_path / "two", "second", "google-vertex", "second")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "one")])
    registry.forget()
    assert mark_of("google-vertex") == "first"
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "two")])
    registry.forget()
    assert mark_of("google-vertex") == "second"


def test_ours_is_back_when_the_package_is_gone() -> None:
    assert registry.upstream("google-vertex") is import_module(BUILT_IN["google-vertex"]).CODEC
    request = registry.client("google-generative-ai").decode_request(
        {"contents": []}, ClientCall(model="m")
    )
    assert request.model == "m"
