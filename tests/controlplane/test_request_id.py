from __future__ import annotations

import re
from http import HTTPStatus

import pytest
import structlog
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from controlplane.request_id import HEADER, accept, request_id


@pytest.mark.parametrize(
    "offered", ["abcdefgh", "0198c2d4-7a3e-7000-8000-000000000001", "a" * 64, "trace.1_2-3"]
)
def test_harmless_ids_are_kept(offered: str) -> None:
    assert accept(offered) == offered


@pytest.mark.parametrize(
    "offered",
    [
        *(None, "", "short", "a" * 65, "has space 1", "line\nbreak12", "abcdefgh\n", "-leading1"),
        *("emoji🙂🙂🙂🙂🙂🙂", "semi;colon1", "<script>1234", "\x00nulnulnul", "quote'\"12345"),
    ],
)
def test_others_are_replaced(offered: str | None) -> None:
    made = accept(offered)
    assert made != offered
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_an_answer_carries_the_id_and_log_lines_see_it() -> None:
    seen = {}

    def view(request: HttpRequest) -> HttpResponse:
        seen.update(structlog.contextvars.get_contextvars())
        return HttpResponse()

    request = RequestFactory().get("/", headers={HEADER: "caller-chosen-1"})
    response = request_id(view)(request)
    assert response[HEADER] == seen["request_id"] == "caller-chosen-1"  # type: ignore[index]
    assert "request_id" not in structlog.contextvars.get_contextvars()


async def test_it_is_wired_in_for_both_servers(client: Client) -> None:
    answer = await AsyncClient().get("/no-such-page", headers={HEADER: "caller-chosen-2"})
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert answer[HEADER] == "caller-chosen-2"


def test_a_made_up_id_is_sent_back_too(client: Client) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/no-such-page")[HEADER])
