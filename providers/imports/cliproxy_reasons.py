"""Keys of CLIProxyAPI and cliproxyapi++ that mean nothing here, and why."""

from __future__ import annotations

from typing import Final

_SERVER: Final = "How this service listens is set by its own environment: see docs/settings.md."
_CLIENT_KEYS: Final = (
    "Keys of clients are made here, so that they carry a tenant and a checksum: issue new ones."
)
_MANAGEMENT: Final = "The admin and the control API take the place of the management API."
_LOGS: Final = "Logs and figures are always on; how many is set by the environment."
_ROUTING: Final = "How targets are tried is a routing policy here: set it once for all providers."
_IMITATION: Final = "Providers are called as what we are: no client is imitated."
_LOGINS: Final = (
    "Logins are made again here; aliases and hidden models belong to their registration."
)
_REWRITING: Final = "Bodies are not rewritten by path: say what differs as a quirk or a default."
_PLUGINS: Final = "Nothing that a file names is loaded or run."

TOP_REASONS: Final[dict[str, str]] = {
    **dict.fromkeys(("host", "port", "tls", "ws-auth", "commercial-mode"), _SERVER),
    **dict.fromkeys(("api-keys", "auth"), _CLIENT_KEYS),
    **dict.fromkeys(("remote-management", "pprof"), _MANAGEMENT),
    **dict.fromkeys(
        (
            *("debug", "logging-to-file", "logs-max-total-size-mb", "error-logs-max-files"),
            *("usage-statistics-enabled", "redis-usage-queue-retention-seconds", "request-log"),
        ),
        _LOGS,
    ),
    **dict.fromkeys(
        (
            *("routing", "request-retry", "max-retry-credentials", "max-retry-interval"),
            *("quota-exceeded", "request-scoped-errors", "save-cooldown-status", "streaming"),
            *("nonstream-keepalive-interval", "passthrough-headers"),
        ),
        _ROUTING,
    ),
    **dict.fromkeys(
        (
            *("cloak", "disable-claude-cloak-mode", "claude-header-defaults", "codex", "xai"),
            *("fingerprint-profile", "codex-header-defaults", "antigravity", "ampcode"),
            *("antigravity-signature-cache-enabled", "antigravity-signature-bypass-strict"),
            *("disable-image-generation", "codex-instructions-enabled"),
        ),
        _IMITATION,
    ),
    **dict.fromkeys(
        (
            *("auth-dir", "oauth-model-alias", "oauth-model-mappings", "oauth-excluded-models"),
            *("incognito-browser", "auth-auto-refresh-workers", "oauth-upstream"),
        ),
        _LOGINS,
    ),
    "payload": _REWRITING,
    "plugins": _PLUGINS,
    "interactions-api-key": "The protocol of this API is not spoken here.",
}

ENTRY_REASONS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("cloak", "fingerprint-profile", "rebuild-mid-system-message", "agent-task-type"),
        _IMITATION,
    ),
    **dict.fromkeys(("request-retry", "request-scoped-errors"), _ROUTING),
    "websockets": "Providers are called over HTTP.",
    "priority": "Set the order of credentials and registrations here.",
}
