"""The one line that a request leaves: no prompt, no answer, no key.

Under load the usual way of a line (processors, record, handlers, one write each) costs more than
everything else that we do for a request. So where lines go to standard error as JSON and nobody
else listens, they are made in a group a moment later, with the same fields, and written at once.
"""

from __future__ import annotations

import asyncio
import json as stdlib_json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.conf import settings

from controlplane.kit import json
from controlplane.kit.redaction import hide_secrets
from controlplane.logs import StderrHandler, get_logger

EVENT: Final = "proxied"
GROUP_SECONDS: Final = 0.1
_NAME: Final = "controlplane.proxy"
_log: Final = get_logger(_NAME)


class Line(msgspec.Struct, kw_only=True):
    """Its fields. Those that a caller had a hand in are looked through for secrets."""

    request_id: str
    client_request_id: str = ""
    route: str = ""
    tenant: str = ""
    model: str = ""
    served_by: str = ""
    attempts: int = 0
    # 499 = the caller left.
    status: int
    milliseconds: float
    event: str = EVENT
    logger: str = _NAME
    level: str = "info"
    timestamp: str = ""


class RequestLog:
    """Belongs to one event loop; `close` writes what is left."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Line]] = []
        layout = settings.LOGGING["formatters"]["line"]["layout"]
        self._is_for_machines = layout == "json"

    def note(self, line: Line) -> None:
        if not logging.getLogger(_NAME).isEnabledFor(logging.INFO):
            return
        if not (self._is_for_machines and nobody_else_listens()):
            # Others who listen get records as from everybody.
            _log.info(EVENT, **_fields(line))
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(GROUP_SECONDS, self.close)
        self._waiting.append((time.time(), line))

    def close(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            sys.stderr.write("".join(_text(moment, line) for moment, line in lines))
            sys.stderr.flush()


def nobody_else_listens() -> bool:
    handlers = logging.root.handlers
    return len(handlers) == 1 and type(handlers[0]) is StderrHandler


def _fields(line: Line) -> dict[str, Any]:
    fields = msgspec.structs.asdict(line)
    for name in ("event", "logger", "level", "timestamp"):
        del fields[name]
    return fields


def _text(moment: float, line: Line) -> str:
    line.timestamp = datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    line.model = hide_secrets(line.model)
    line.served_by = hide_secrets(line.served_by)
    line.client_request_id = hide_secrets(line.client_request_id)
    data = json.dumps(line)
    if data.isascii():
        return data.decode("ascii") + "\n"
    # Some other characters end a line for many readers of logs.
    return stdlib_json.dumps(json.loads(data), separators=(",", ":")) + "\n"
