"""The OpenAPI document: without a warning, complete, and served with a page that shows it."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client

from controlplane.api.schema import document
from controlplane.proxy.routes import ROUTES as PROXY_ROUTES
from tests.controlplane.api.conftest import Api, error_of
from tests.controlplane.api.test_matrix import ROWS, routes


def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document())
    return found


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (path, method): operation
        for path, methods in described()["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api/v1/")
    }


def test_it_is_made_and_validates_without_a_warning() -> None:
    errors = StringIO()
    call_command(
        "spectacular",
        "--validate",
        "--fail-on-warn",
        "--format=openapi-json",
        stdout=StringIO(),
        stderr=errors,
    )
    assert errors.getvalue() == ""


def test_every_route_and_method_is_in_it() -> None:
    def path_of(name: str) -> str:
        return "/api/v1/" + re.sub(r"<row_id:(\w+)>", r"{\1}", str(routes()[name].pattern))

    assert set(operations()) == {(path_of(name), method) for name, method in ROWS}


def test_the_proxy_is_in_it_with_its_own_kind_of_key() -> None:
    found = described()
    for route in PROXY_ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        assert operation["security"] == [{"tenantKey": []}]
        assert operation["tags"] == ["proxy"]
    schemes = found["components"]["securitySchemes"]
    assert set(schemes) == {"controlKey", "session", "tenantKey"}
    assert schemes["tenantKey"]["scheme"] == "bearer"


def test_each_operation_says_what_it_is_who_may_and_how_it_fails() -> None:
    seen = set()
    for (path, method), operation in operations().items():
        assert operation["summary"], path
        assert operation["tags"], path
        assert operation["security"] == [{"controlKey": []}, {"session": []}], path
        assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
            "$ref": "#/components/schemas/Error"
        }
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("If-Match" in names) == (method in {"patch", "put", "delete"}), path
        if "201" in operation["responses"] and not path.endswith("/accept"):
            assert "Idempotency-Key" in names, path
        seen.add(operation["operationId"])
    assert len(seen) == len(operations())


def test_the_document_is_served_and_made_once() -> None:
    first, second = Client().get("/api/schema/"), Client().get("/api/schema/")
    assert first["Content-Type"] == "application/json"
    assert first.content == second.content == document()
    assert document() is document()


def test_the_page_loads_only_files_that_are_here() -> None:
    answer = Client().get("/api/docs/")
    assert answer.status_code == 200
    page = answer.content.decode()
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    for name in re.findall(r'(?:src|href)="/static/([^"]+)"', page):
        assert finders.find(name), name
    assert "unsafe" not in answer["Content-Security-Policy"]
    nonces = set(re.findall(r'nonce="([^"]+)"', page))
    assert len(nonces) == 1
    assert f"'nonce-{nonces.pop()}'" in answer["Content-Security-Policy"]
    assert not re.search(r"<(?:script|style)(?![^>]*(?:nonce|src)=)", page)


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
@pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
def test_other_methods_there(path: str, method: str) -> None:
    answer = Api(Client())(method, path)
    assert answer.status_code == 405
    assert error_of(answer)["code"] == "method_not_allowed"
    assert answer["Allow"] == "GET, HEAD"
