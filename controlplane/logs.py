"""Every log line of the system: one event, one line, no secret in it.

structlog and the standard library's loggers (Django, Celery, uvicorn) meet in one formatter:
JSON in production, columns in development. `redact` is the only place that hides secrets, and
every event passes it last, after tracebacks became text.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from controlplane.kit.redaction import hide, text_of

# What LOG_FORMAT and LOG_LEVEL may say; the first is the default.
LAYOUTS: Final = ("json", "columns")
LEVELS: Final = ("INFO", "DEBUG", "WARNING", "ERROR")

# Made by us or checked on the way in, and long: shown as they are.
_SHOWN: Final = frozenset({"request_id", "timestamp", "level", "logger"})


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The one processor that hides secrets. Runs last before a line is made."""
    shown = {name: event.pop(name) for name in _SHOWN & event.keys()}
    hidden: EventDict = hide(event)
    hidden.update(shown)
    return hidden


def as_json(_logger: Any, _method: str, event: EventDict) -> str:
    # ASCII, because U+0085, U+2028 and U+2029 end a line for many readers of logs.
    return json.dumps(event, ensure_ascii=True, default=text_of, separators=(",", ":"))


def _escape(text: str) -> str:
    """Control characters and other ends of lines as escapes: a value cannot forge a line, move the
    cursor or colour the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_columns(_logger: Any, _method: str, event: EventDict) -> str:
    """For a person: time, level, what happened, the rest. Tracebacks follow, indented, so that no
    line of theirs can pass for an event."""
    trace = str(event.pop("exception", "") or event.pop("stack", ""))
    moment = str(event.pop("timestamp", ""))[11:19]
    level = str(event.pop("level", ""))
    what = _escape(str(event.pop("event", "")))
    name = event.pop("logger", "")
    rest = " ".join(
        f"{_escape(key)}={_escape(value if isinstance(value, str) else text_of(value))}"
        for key, value in sorted(event.items())
    )
    line = f"{moment} {level:<7} {what}" + (f"  {rest}" if rest else "")
    if name:
        line += f"  [{_escape(str(name))}]"
    return line + "".join(f"\n    {_escape(part)}" for part in trace.splitlines())


_BEFORE: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _without_plumbing(_logger: Any, _method: str, event: EventDict) -> EventDict:
    # Django attaches the request object to its records: it holds headers, cookies and bodies.
    for name in ("_record", "_from_structlog", "request", "server_time"):
        event.pop(name, None)
    return event


def formatter(*, layout: str) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_BEFORE, structlog.stdlib.ExtraAdder()],
        processors=[
            _without_plumbing,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            redact,
            as_columns if layout == "columns" else as_json,
        ],
    )


def configure(*, layout: str, level: str) -> dict[str, Any]:
    """Django's LOGGING, and structlog set up to go through it."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_BEFORE,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter, "layout": layout}},
        "handlers": {"out": {"()": StderrHandler, "formatter": "line"}},
        "root": {"handlers": ["out"], "level": level},
        # Django's own handlers would print the same records again, unredacted.
        "loggers": {
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
            "uvicorn": {"handlers": [], "propagate": True},
            "uvicorn.error": {"handlers": [], "propagate": True},
            # Each request leaves one line of ours; the server's would be a second one.
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the standard error of the moment, so that a test which replaces it sees lines.

    A line that cannot be made is reported without its content, which may hold what failed.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the base class's name)
        kind = sys.exc_info()[0]
        reason = kind.__name__ if kind else "unknown"
        try:
            sys.stderr.write(
                json.dumps({"event": "log_line_lost", "logger": record.name, "reason": reason})
                + "\n"
            )
        except (OSError, ValueError):
            # Standard error is closed: there is nowhere left to say it.
            return


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
