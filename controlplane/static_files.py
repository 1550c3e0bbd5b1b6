"""Static files, served by the process that serves everything else.

WhiteNoise finds them and knows their headers, but answers with an iterator that is read
synchronously. Under ASGI Django reads such an answer whole before it sends the first byte, and
warns about it each time: so they are read whole here. The largest has some megabytes.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        content = b""
        if found.file is not None:
            with found.file:
                content = found.file.read()
        response = HttpResponse(content, status=int(found.status))
        # It says what the file is, and nothing where there is no content.
        del response.headers["Content-Type"]
        for name, value in found.headers:
            response.headers[name] = value
        return response
