"""Static files come whole, under ASGI as under WSGI; warnings are errors in these tests."""

from __future__ import annotations

import pytest
from django.contrib.staticfiles import finders
from django.http import HttpResponse
from django.test import AsyncClient, Client

URL = "/static/console/console.css"


def content() -> bytes:
    found = finders.find("console/console.css")
    assert isinstance(found, str)
    with open(found, "rb") as file:
        return file.read()


def check(answer: HttpResponse) -> None:
    assert answer.status_code == 200
    assert not answer.streaming, "Django would read it whole and warn"
    assert answer.content == content()
    assert answer["Content-Type"].startswith("text/css")
    assert answer["Content-Length"] == str(len(content()))


async def test_an_asgi_server_gets_a_whole_file(async_client: AsyncClient) -> None:
    check(await async_client.get(URL))


def test_a_wsgi_server_too(client: Client) -> None:
    check(client.get(URL))


def test_what_browsers_ask_besides(client: Client) -> None:
    whole = client.get(URL)
    known = client.get(URL, headers={"if-modified-since": whole["Last-Modified"]})
    assert (known.status_code, known.content) == (304, b"")
    asked = client.head(URL)
    assert (asked.status_code, asked["Content-Length"]) == (200, str(len(content())))
    part = client.get(URL, headers={"range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, content()[3:10])
    assert part["Content-Range"] == f"bytes 3-9/{len(content())}"


@pytest.mark.django_db
async def test_what_is_no_file_is_asked_of_django(async_client: AsyncClient) -> None:
    assert (await async_client.get("/static/console/none.css")).status_code == 404
