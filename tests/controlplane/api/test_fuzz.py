"""Bar I1, control API part: whatever the OpenAPI document allows and much that it forbids is sent;
no answer is a 5xx, and every answer is one that the document describes.

300 requests in `make test`, 5,000 in the soak run. Each starts from the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tenants.members.models import User
from tests.controlplane.api.conftest import Home, signed_in, with_key

pytestmark = pytest.mark.django_db

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
_CSRF = "a" * 32


@pytest.fixture
def application() -> Iterator[Any]:
    """The whole stack, as a server would call it, on the test's own database connection."""
    signals = (request_started, request_finished)
    connected = [signal for signal in signals if signal.disconnect(close_old_connections)]
    yield get_wsgi_application()
    for signal in connected:
        signal.connect(close_old_connections)


@dataclass(frozen=True)
class Caller:
    """None = whatever the generator makes up."""

    name: str
    headers: dict[str, str] | None = None
    cookies: dict[str, str] | None = None


def person(name: str, user: User) -> Caller:
    session = signed_in(user).client.cookies[django_settings.SESSION_COOKIE_NAME].value
    cookies = {
        django_settings.SESSION_COOKIE_NAME: session,
        django_settings.CSRF_COOKIE_NAME: _CSRF,
    }
    return Caller(name, {"X-CSRFToken": _CSRF}, cookies)


@pytest.mark.parametrize(
    "count", [300, pytest.param(5_000, marks=pytest.mark.soak)], ids=["some", "many"]
)
def test_schema_driven_requests(
    count: int, application: Any, home: Home, elsewhere: Home, staff: User
) -> None:
    schema = schemathesis.openapi.from_wsgi("/api/schema/", application)
    operations = [
        found.ok()
        for found in schema.get_all_operations()
        if found.ok().path.startswith("/api/v1/")
    ]
    assert len(operations) >= 27
    callers = [
        person("staff", staff),
        person("owner", home.members["owner"].user),
        person("viewer", home.members["viewer"].user),
        Caller("key", with_key(home.tenant).headers),
        Caller("anybody"),
    ]
    seen: Counter[str] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=st.one_of(
            operation.as_strategy(mode)
            for operation in operations
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ),
        caller=st.sampled_from(callers),
        ids=st.sampled_from([home.ids(), home.ids(), elsewhere.ids(), None]),
        if_match=st.sampled_from(['"1"', '"1"', '"2"', None]),
    )
    def send(case: Any, caller: Caller, ids: dict[str, str] | None, if_match: str | None) -> None:
        # Invented ids are all missing: behind those that exist there is more to break.
        if ids is not None and case.path_parameters:
            case.path_parameters.update(
                {name: ids[name] for name in case.path_parameters if name in ids}
            )
        if if_match is not None and "If-Match" in case.headers:
            case.headers["If-Match"] = if_match
        if caller.headers is not None:
            case.headers.pop("Authorization", None)
            case.cookies.clear()
        with transaction.atomic():
            response = case.call(headers=caller.headers, cookies=caller.cookies)
            transaction.set_rollback(True)
        seen[f"{response.status_code // 100}xx"] += 1
        case.validate_response(response, checks=CHECKS)

    send()
    answers = dict(sorted(seen.items()))
    print(f"{sum(seen.values())} requests to {len(operations)} operations: {answers}")
    assert sum(seen.values()) >= count * 0.9
    assert seen["5xx"] == 0
    assert seen["2xx"] > count / 20, "hardly anything got past the door: the test tests nothing"
