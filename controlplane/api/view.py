"""The base of every view of the control API: who calls, what may be sent, who answers for it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar, Final, TypeVar, cast

from django.db import models
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from controlplane.api import pagination
from controlplane.api.authentication import KeyAuthentication, SessionAuthentication, actor_of
from controlplane.api.errors import (
    BodyTooLarge,
    InvalidBody,
    LengthRequired,
    UnknownParameter,
    UnknownPath,
    UnsupportedBody,
)
from controlplane.api.versioning import etag
from controlplane.console.sign_in.caller import caller_address
from controlplane.kit import json
from controlplane.kit.models import Versioned
from tenants.audit.actor import acting_as
from tenants.keys.caller import KeyCaller
from tenants.members.models import User

BODY_LIMIT_BYTES: Final = 1024 * 1024
JSON: Final = "application/json"
METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})

S = TypeVar("S", bound=serializers.BaseSerializer[Any])


class StrictJSONParser(BaseParser):
    """One JSON object, of bounded size and depth. Keeps its bytes on the view as `raw_body`."""

    media_type = JSON

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        body = stream.read(BODY_LIMIT_BYTES + 1)
        if len(body) > BODY_LIMIT_BYTES:
            raise BodyTooLarge(f"The body may hold at most {BODY_LIMIT_BYTES} bytes.")
        if json.depth_exceeds(body):
            raise InvalidBody(f"The body nests deeper than {json.MAX_DEPTH} levels.")
        try:
            parsed = json.loads_dict(body)
        except json.InvalidJSON as error:
            raise InvalidBody(f"Send one JSON object; this is none: {error}.") from None
        parser_context["view"].raw_body = body
        return parsed


class AlwaysJSON(BaseContentNegotiation):
    """Whatever a client says it accepts, JSON is what there is."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class ControlView(GenericAPIView[Any]):
    """Views parse, ask an access function for the row, call one service in the row's scope, and
    render. A list says `is_list`, and by which column it is paged."""

    parser_classes = (StrictJSONParser,)
    renderer_classes = (JSONRenderer,)
    authentication_classes: Any = (KeyAuthentication, SessionAuthentication)
    content_negotiation_class = AlwaysJSON
    pagination_class = pagination.CursorPages
    # OPTIONS would describe the view to whom the view itself refuses; the schema is public.
    metadata_class = None
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    is_list: ClassVar[bool] = False
    position: ClassVar[str] = "id"
    filterset_class: ClassVar[Any] = None
    # What a GET that is no list takes in its query string.
    parameters: ClassVar[frozenset[str]] = frozenset()

    raw_body: bytes = b""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # The actor is set once it is known, in `initial`, and forgotten here at the latest.
        with ExitStack() as self._contexts:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self._check_body(request)
        super().initial(request, *args, **kwargs)
        self._check_query(request)
        kind, caller_id, label = actor_of(self.caller)
        address = caller_address(request._request)
        self._contexts.enter_context(acting_as(kind, caller_id, label, address))

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer["Cache-Control"] = "no-store"
        return answer

    def validated(self, kind: type[S], **options: Any) -> Any:
        """What the body holds, by this serializer. Raises ValidationError, by field."""
        serializer = kind(data=self.request.data, **options)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def page(self, rows: models.QuerySet[Any], kind: type[S]) -> Response:
        """One page of the rows that the filters leave. In the scope of the rows."""
        page = self.paginate_queryset(self.filter_queryset(rows))
        return self.get_paginated_response(kind(page, many=True, context=self.context).data)

    def one(self, row: Any, kind: type[S], *, status: int = 200) -> Response:
        headers = {"ETag": etag(row)} if isinstance(row, Versioned) else {}
        return Response(self.shown(row, kind), status=status, headers=headers)

    def shown(self, row: Any, kind: type[S]) -> dict[str, Any]:
        data: dict[str, Any] = kind(row, context=self.context).data
        return data

    @property
    def caller(self) -> User | KeyCaller:
        """Who was authenticated; the framework's types know only users."""
        return cast("User | KeyCaller", self.request.user)

    @property
    def context(self) -> dict[str, Any]:
        return {"caller": self.caller}

    def _check_body(self, request: Request) -> None:
        if request.method not in METHODS_WITH_BODY:
            return
        length = request.META.get("CONTENT_LENGTH") or ""
        if not length and request.headers.get("Transfer-Encoding"):
            raise LengthRequired("Send the body in one piece, with a Content-Length header.")
        if not length or length == "0":
            return
        if not length.isdecimal() or len(length) > 18:
            raise InvalidBody("The Content-Length header is no number.")
        if int(length) > BODY_LIMIT_BYTES:
            raise BodyTooLarge(f"The body may hold at most {BODY_LIMIT_BYTES} bytes.")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedBody("Send the body uncompressed: drop the Content-Encoding header.")
        if request.content_type.partition(";")[0].strip().lower() != JSON:
            raise UnsupportedBody(f"Send JSON, with the header Content-Type: {JSON}.")

    def _check_query(self, request: Request) -> None:
        """A parameter that means nothing is refused: mistyped, it would silently widen a list,
        and there is no name under which a column could be asked about that no filter offers."""
        offered: set[str] = set()
        if request.method in {"GET", "HEAD"}:
            offered |= self.parameters
        if self.is_list and request.method in {"GET", "HEAD"}:
            offered |= pagination.NAMES
            if self.filterset_class is not None:
                offered |= set(self.filterset_class.base_filters)
        unknown = sorted(set(request.query_params) - offered)
        if unknown:
            known = f"there are {', '.join(sorted(offered))}" if offered else "there are none"
            raise UnknownParameter(
                f"The parameter {unknown[0][:100]!r} is not known here; {known}.",
                param=unknown[0][:100],
            )


class NoSuchPath(ControlView):
    """Whatever lies below /api/ and is nothing."""

    schema = None
    authentication_classes = ()
    permission_classes = ()
    http_method_names = [*ControlView.http_method_names, "options", "trace"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise UnknownPath("This path does not exist. See /api/docs/ for those that do.")
