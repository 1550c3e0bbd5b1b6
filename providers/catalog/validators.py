"""What the free-form fields of a registration may hold. Models, forms and the API share these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography import x509
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from providers.catalog.reading import check_model
from providers.catalog.schema import CatalogError, Feature, Limits, Model
from providers.protocols.quirks import Quirks

FEATURES: Final[tuple[str, ...]] = Feature.__args__  # type: ignore[attr-defined]  # a Literal's
# What the schema knows of a provider, and the most tokens one request may ask for.
LIMITS: Final = (
    *(field.name for field in msgspec.structs.fields(Limits)),
    "max_tokens_per_request",
)
# What a row may say of a model. Where it is called, and with which headers, is not among it.
FACTS: Final = frozenset(
    {
        *("name", "kind", "context_window", "max_output_tokens", "modalities", "reasoning"),
        *("levels", "functions", "streaming", "price", "quirks", "features"),
    }
)
MOST_HEADERS: Final = 20
MOST_PATTERNS: Final = 200
_LONGEST_HEADER: Final = 1000
_LARGEST_NUMBER: Final = 2_147_483_647

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
# Visible ASCII, spaces and tabs: nothing that could end a line (bar N5).
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*\Z")
# What the connection itself or the gateway decides.
_NOT_OURS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"),
        *("te", "trailer", "expect", "proxy-authorization", "proxy-connection", "accept-encoding"),
        *("content-encoding", "content-type", "x-forwarded-for", "forwarded"),
    }
)
_LOOKS_SECRET: Final = re.compile(r"(?i)authorization|api-?key|token|secret|password|cookie")
_ENDPOINT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_ENDPOINT_VALUE: Final = re.compile(r"[\x20-\x7e]{0,500}\Z")

SECONDS: Final = (MinValueValidator(0.1), MaxValueValidator(3600))


def valid_headers(value: Any) -> None:
    """Plain headers: everybody who sees the registration sees them."""
    _check_headers(value)
    for name in value:
        if _LOOKS_SECRET.search(name):
            raise ValidationError(
                f"{name!r} looks like a secret: set it as a secret header, which is stored sealed.",
                code="secret",
            )


def valid_secret_headers(value: Any) -> None:
    _check_headers(value)


def _check_headers(value: Any) -> None:
    headers = _texts(value, "headers")
    if len(headers) > MOST_HEADERS:
        raise ValidationError(f"At most {MOST_HEADERS} headers fit here.", code="too_many")
    seen: set[str] = set()
    for name, text in headers.items():
        if not _HEADER_NAME.match(name):
            raise ValidationError(f"{name[:100]!r} is no name of a header.", code="bad_name")
        if name.lower() in _NOT_OURS:
            raise ValidationError(
                f"{name!r} is decided by the connection: leave it out.", code="reserved"
            )
        if name.lower() in seen:
            raise ValidationError(f"{name!r} stands twice.", code="twice")
        seen.add(name.lower())
        if len(text) > _LONGEST_HEADER or not _HEADER_VALUE.match(text):
            raise ValidationError(
                f"The value of {name!r} cannot be sent: use one line of at most "
                f"{_LONGEST_HEADER} visible ASCII characters.",
                code="bad_value",
            )


def valid_endpoint(value: Any) -> None:
    """Their form is the catalog's to say; this is what holds for all of them."""
    endpoint = _texts(value, "identifiers")
    if len(endpoint) > 30:
        raise ValidationError("At most 30 identifiers fit here.", code="too_many")
    for name, text in endpoint.items():
        if not _ENDPOINT_NAME.match(name):
            raise ValidationError(f"{name[:100]!r} is no name of an identifier.", code="bad_name")
        if not _ENDPOINT_VALUE.match(text):
            raise ValidationError(
                f"{name!r} must be one line of at most 500 visible ASCII characters.",
                code="bad_value",
            )


def valid_features(value: Any) -> None:
    for name, is_supported in _table(value, "features").items():
        if name not in FEATURES:
            raise ValidationError(
                f"There is no feature {name[:100]!r}; there are {', '.join(FEATURES)}.",
                code="unknown",
            )
        if not isinstance(is_supported, bool):
            raise ValidationError(f"Feature {name!r} is true or false.", code="bad_value")


def valid_limits(value: Any) -> None:
    for name, number in _table(value, "limits").items():
        if name not in LIMITS:
            raise ValidationError(
                f"There is no limit {name[:100]!r}; there are {', '.join(LIMITS)}.", code="unknown"
            )
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if not is_number or not 0 <= number <= _LARGEST_NUMBER:
            raise ValidationError(
                f"{name!r} is a whole number from 0 (no limit) up.", code="bad_value"
            )


def valid_quirks(value: Any) -> None:
    quirks = _table(value, "quirks")
    known = {field.name for field in msgspec.structs.fields(Quirks)}
    for name in quirks:
        if name not in known:
            raise ValidationError(
                f"There is no quirk {name[:100]!r}: docs/providers.md lists them.", code="unknown"
            )
    try:
        msgspec.convert(quirks, Quirks)
    except msgspec.ValidationError as error:
        raise ValidationError(f"{error}.", code="bad_value") from None


def valid_patterns(value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        # Not "invalid": Django would put the JSON field's own sentence in place of ours.
        raise ValidationError("Give a list of names or globs such as *-preview.", code="not_texts")
    if len(value) > MOST_PATTERNS:
        raise ValidationError(f"At most {MOST_PATTERNS} entries fit here.", code="too_many")
    for text in value:
        if not 0 < len(text) <= 255 or not text.isprintable():
            raise ValidationError(f"{text[:100]!r} is no name of a model.", code="bad_entry")


def valid_facts(value: Any) -> None:
    facts = _table(value, "facts")
    for name in facts:
        if name not in FACTS:
            raise ValidationError(
                f"{name[:100]!r} is no fact of a model; there are {', '.join(sorted(FACTS))}.",
                code="unknown",
            )
    try:
        model = msgspec.convert({**facts, "id": "model"}, Model)
        check_model(model, "facts")
    except (msgspec.ValidationError, CatalogError) as error:
        raise ValidationError(f"{str(error).rstrip('.')}.", code="bad_value") from None


def check_shapes(row: models.Model) -> None:
    """An empty list where an object belongs passes Django's validators, which skip what is empty.
    Raises ValidationError by field."""
    for field in row._meta.concrete_fields:
        if isinstance(field, models.JSONField):
            wanted = type(field.get_default())
            if type(getattr(row, field.attname)) is not wanted:
                what = "an object" if wanted is dict else "a list"
                raise ValidationError({field.name: [f"Give {what}."]})


def valid_name(value: str) -> None:
    """A model's name, as clients and providers write it: it ends up in paths and log lines."""
    if not value.isprintable() or value != value.strip() or ".." in value.split("/"):
        raise ValidationError(
            "A model's name is one line without spaces around it.", code="bad_name"
        )


def valid_certificate(value: str) -> None:
    if len(value) > 65_536:
        raise ValidationError("At most 64 KB of certificates fit here.", code="too_long")
    try:
        x509.load_pem_x509_certificates(value.encode())
    except ValueError:
        raise ValidationError(
            "These are no certificates in PEM form: paste the text from BEGIN CERTIFICATE to "
            "END CERTIFICATE.",
            code="bad_value",
        ) from None


def _table(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValidationError(f"Give {what} as an object of names and values.", code="not_object")
    return value


def _texts(value: Any, what: str) -> Mapping[str, str]:
    table = _table(value, what)
    if not all(isinstance(text, str) for text in table.values()):
        raise ValidationError(f"Every value of {what} is a text.", code="not_texts")
    return table
