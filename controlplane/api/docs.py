"""The OpenAPI document and a page that shows it. Everything the page loads is served from here."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from controlplane.api.errors import bare_response
from controlplane.api.schema import document
from controlplane.kit.errors import Fault, FaultKind


def schema(request: HttpRequest) -> HttpResponseBase:
    return _refused(request) or HttpResponse(document(), content_type="application/json")


def swagger(request: HttpRequest) -> HttpResponseBase:
    return _refused(request) or render(request, "api/swagger.html")


def _refused(request: HttpRequest) -> HttpResponseBase | None:
    if request.method in {"GET", "HEAD"}:
        return None
    answer = bare_response(
        Fault(kind=FaultKind.METHOD, code="method_not_allowed", message="Use GET or HEAD here.")
    )
    answer["Allow"] = "GET, HEAD"
    return answer
