"""What Django itself answers, before or around a view: below /api/ in the one shape too."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import defaults

from controlplane.api.errors import INTERNAL, bare_response, fault_of, is_api


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """For handler400: a host that is not ours, a request that cannot be read."""
    if is_api(request):
        return bare_response(fault_of(exception))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """For handler500. What happened is in the log already."""
    return bare_response(INTERNAL) if is_api(request) else defaults.server_error(request)
