"""The short screen that a start ends with."""

from __future__ import annotations

import json

from controlplane.first_run.steps import DEMO_SLUG, Made

# Answered by the simulator on this machine: no account anywhere is needed.
DEMO_MODEL = "sim-gpt"


def text(base_url: str, made: Made) -> str:
    """`base_url` without a slash at its end, as in http://127.0.0.1:8000."""
    if made.admin_password is not None:
        how = f"one-time password  {made.admin_password.reveal()}"
    else:
        how = "with your password"
    lines = [
        "",
        "  Provider Control Plane is running.",
        "",
        f"  Admin      {base_url}/admin/",
        f"  Sign in    {made.admin_email}   {how}",
        f"  Base URL   {base_url}/v1",
    ]
    if made.demo_key is not None:
        key = made.demo_key.reveal()
        lines += [
            f"  Key        {key}",
            f"             for tenant {DEMO_SLUG}. Password and key are shown this once.",
            "",
            "  Try it:",
            f"  {curl(base_url, key)}",
        ]
    else:
        lines += ["  Key        `make demo-key` makes one more for tenant " + DEMO_SLUG]
    return "\n".join([*lines, "", "  Ctrl-C stops everything.", ""])


def credentials(made: Made) -> str:
    """What was made and is shown this once, where no system runs beside it."""
    lines = []
    if made.admin_password is not None:
        password = made.admin_password.reveal()
        lines.append(f"  Sign in    {made.admin_email}   one-time password  {password}")
    if made.demo_key is not None:
        lines.append(f"  Key        {made.demo_key.reveal()}   for tenant {DEMO_SLUG}")
    return "\n".join(lines or ["  Everything was prepared before."])


def curl(base_url: str, key: str) -> str:
    body = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    return (
        f"curl {base_url}/v1/chat/completions -H 'Authorization: Bearer {key}' "
        f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"
    )
