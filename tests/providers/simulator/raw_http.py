"""A caller that looks at the bytes: what a client library would hide is what these tests check."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

DEADLINE_SECONDS = 20.0


@dataclass(slots=True)
class Answer:
    """`ending`: `whole` by its length or last chunk, `closed` or `reset` before that."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ending: str = "whole"

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        """The JSON of every `data:` line."""
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line[6:]) for line in lines]


class Caller:
    """One connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path
        assert parts.hostname
        assert parts.port
        self.socket = socket.create_connection((parts.hostname, parts.port), DEADLINE_SECONDS)
        self._buffer = b""
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "",
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is None:
            raw = b""
        given = {
            "authorization": "Bearer sk-test",
            "anthropic-version": "2023-06-01",
            "content-type": content_type,
            **(headers or {}),
        }
        lines = [f"{method or ('GET' if body is None else 'POST')} {self._prefix}{path} HTTP/1.1"]
        lines += ["host: simulator", f"content-length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in given.items() if value]
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)

    def head(self) -> Answer:
        """Status and headers; waits for nothing behind them."""
        status = self._file.readline()
        if not status:
            return Answer(ending="closed")
        answer = Answer(int(status.split()[1]))
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            answer.headers[name.lower()] = value.strip()
        return answer

    def read(self) -> Answer:
        answer = Answer(ending="reset")
        try:
            answer = self.head()
            if answer.status:
                self._body(answer)
        except ConnectionResetError:
            answer.ending = "reset"
        return answer

    def _body(self, answer: Answer) -> None:
        if "content-length" in answer.headers:
            wanted = int(answer.headers["content-length"])
            while len(answer.body) < wanted:
                piece = self._file.read1(wanted - len(answer.body))
                if not piece:
                    answer.ending = "closed"
                    return
                answer.body += piece
            return
        while (size := self._file.readline()) not in (b"0\r\n", b""):
            piece = self._file.read(int(size, 16) + 2)
            answer.body += piece[:-2]
        if size == b"":
            answer.ending = "closed"
        else:
            self._file.readline()


def ask(url: str, path: str, body: Any = None, **options: Any) -> Answer:
    """One question on a connection of its own."""
    with Caller(url) as caller:
        caller.ask(path, body, **options)
        return caller.read()


def chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


def claude(model: str, **fields: Any) -> dict[str, Any]:
    return chat(model, **{"max_tokens": 1024, **fields})
