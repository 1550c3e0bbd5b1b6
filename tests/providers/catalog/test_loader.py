"""A provider is one file: a good one works at once, a bad one says where and what to do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from django.core.checks import Error

from providers.catalog import system_check
from providers.catalog.effective import Registration, effective
from providers.catalog.loader import DATA, Catalog, catalog, load, problems, read
from providers.catalog.pricing import cost_nanos
from providers.catalog.schema import CatalogError
from providers.protocols import registry
from providers.protocols.canonical import Message, Request, Text, Usage

GOOD = """
id = "acme"
name = "Acme"
kind = "direct"
protocol = "openai-completions"
base_url = "https://{region}.api.acme.example/v1"
features = ["streaming", "functions"]
cooldown_seconds = 12

[auth]
type = "api_key_plus"
scheme = { scheme = "header", header = "x-acme-key" }
env = ["ACME_API_KEY"]

[auth.identifiers.region]
pattern = 'north|south'
description = "north or south"

[headers]
X-Acme-Client = "gateway"

[quirks]
max_tokens_field = "max_tokens" # 400 on the other, 2026-11

[[models]]
id = "acme-large"
context_window = 131_072
max_output_tokens = 8_192
modalities = ["text", "image"]
price = { input = "0.60", output = "2.40" }
"""


def test_a_file_made_on_the_fly_works_without_code(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(GOOD)
    file = load(tmp_path)["acme"]
    made = effective(
        Registration(slug="acme", catalog_id="acme", endpoint={"region": "north"}), file
    )
    (model,) = made.models
    request = Request(
        model="acme-large",
        dialect="anthropic-messages",
        messages=(Message(role="user", parts=(Text(text="Hello"),)),),
    )
    request = msgspec.structs.replace(
        request, sampling=msgspec.structs.replace(request.sampling, max_output_tokens=100)
    )
    call = registry.upstream(model.spec.protocol).encode_request(
        request, model.spec, request_id="r-1"
    )
    assert model.base_url + call.path == "https://north.api.acme.example/v1/chat/completions"
    assert call.body["max_tokens"] == 100
    assert model.headers == {"X-Acme-Client": "gateway"}
    assert (model.scheme.header, made.cooldown_seconds) == ("x-acme-key", 12)
    assert cost_nanos(Usage(input=1_000_000, output=1_000_000), model.price) == 3_000_000_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cooldown_seconds", "cooldown_secs", ("cooldown_secs", "take it out")),
        ("context_window", "context", ("'acme-large'", "context", "take it out")),
        ('kind = "direct"', 'kind = "indirect"', ("'indirect'", "$.kind")),
        ('name = "Acme"\n', "", ("name", "Add it")),
        ("131_072", '"131072"', ("'acme-large'", "int")),
        ("131_072", "-1", ("'acme-large'", "context_window", "0 (unknown) or more")),
        ('"2.40"', "2.40", ("'acme-large'", "price")),
        ('"2.40"', '"cheap"', ("'acme-large'", "price output", "decimal number")),
        ('"2.40"', '"-1"', ("'acme-large'", "price output", "leave unknown prices out")),
        ("max_tokens_field", "max_token_field", ("max_token_field", "quirks.py")),
        ('= "max_tokens"', '= "tokens"', ("quirks", "'tokens'", "quirks.py")),
        ("/v1", "/v1/", ("slash", "take it off")),
        ("https://", "ftp://", ("https://", "must begin")),
        ("https://", "http://", ("https://", "must begin")),
        ("identifiers.region]", "identifiers.place]", ("'region'", "[auth.identifiers]")),
        ("'north|south'", "'north|('", ("auth.identifiers.region", "pattern")),
        ("X-Acme-Client", "Authorization", ("'Authorization'", "[auth]")),
        ("X-Acme-Client", '"X Acme"', ("'X Acme'", "cannot be sent")),
        ('"gateway"', '"a\\r\\nb"', ("X-Acme-Client", "cannot be sent")),
        ('header = "x-acme-key"', 'header = ""', ("auth.scheme", "header's name")),
        ('"openai-completions"', '"openai-completion"', ("openai-completion", "Known:")),
        ("context_window", 'protocol = "x-y"\ncontext_window', ("'acme-large'", "[protocols.x-y]")),
        ('"ACME_API_KEY"', '"acme key"', ("acme key", "environment variable")),
        ('id = "acme"', 'id = "acne"', ("acne", "rename")),
        ('id = "acme"', 'id = "Acme!"', ("Acme!", "lower-case")),
        ("[quirks]", "[quirks", ("no TOML", "line")),
    ],
)  # fmt: skip
def test_a_bad_file_names_file_place_and_remedy(
    tmp_path: Path, old: str, new: str, said: tuple[str, ...]
) -> None:
    assert old in GOOD
    path = tmp_path / "acme.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(CatalogError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith("acme.toml: ")
    for words in said:
        assert words in message, message
    assert "\n" not in message


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(GOOD + 'more = "x"\n')
    (tmp_path / "beta.toml").write_text("id = ")
    (tmp_path / "gamma.toml").write_bytes(b"\xff\xfe")
    assert [text.partition(":")[0] for text in problems(tmp_path)] == [
        "acme.toml", "beta.toml", "gamma.toml",
    ]  # fmt: skip


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(GOOD + '[[models]]\nid = "acme-large"\n')
    with pytest.raises(CatalogError, match="'acme-large' stands twice: take one out"):
        load(tmp_path)


def test_two_providers_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(GOOD)
    other = GOOD.replace('id = "acme"', 'id = "other"\nknown_as = ["acme"]')
    (tmp_path / "other.toml").write_text(other)
    with pytest.raises(CatalogError, match=r"other\.toml: known_as 'acme'"):
        load(tmp_path)


def test_the_shipped_catalog_has_no_problem() -> None:
    assert problems(DATA) == []
    assert system_check.check_catalog() == []


def test_a_broken_catalog_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme.toml").write_text("id = ")
    monkeypatch.setattr(system_check, "DATA", tmp_path)
    (found,) = system_check.check_catalog()
    assert isinstance(found, Error)
    assert found.msg.startswith("acme.toml: ")


def test_files_are_read_when_first_asked_for(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(GOOD)
    (tmp_path / "broken.toml").write_text("id = ")
    lazy = Catalog(tmp_path)
    assert set(lazy) == {"acme", "broken"}
    assert lazy["acme"] is lazy["acme"]
    assert lazy.get("nothing") is None
    with pytest.raises(CatalogError, match="broken"):
        lazy["broken"]


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude", "anthropic"),
        ("gemini", "google"),
        ("azure-openai-responses", "azure"),
        ("copilot", "github-copilot"),
        ("roocode", "roo"),
        ("kiloai", "kilo"),
        ("zen", "opencode"),
        ("nim", "nvidia"),
        ("openai", "openai"),
    ],
)
def test_older_names_lead_to_the_provider(name: str, provider: str) -> None:
    found = catalog().named(name)
    assert found is not None
    assert found.id == provider


def test_an_unknown_name_leads_nowhere() -> None:
    assert catalog().named("codegurus") is None
