"""Writes docs/protocol-matrix.md from the golden files of the conformance suite: `make docs`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
GOLDEN: Final = ROOT / "tests" / "golden" / "protocols"
PAGE: Final = ROOT / "docs" / "protocol-matrix.md"

DIALECTS: Final = {
    "openai-completions": "Chat Completions",
    "openai-responses": "Responses",
    "anthropic-messages": "Messages",
    "google-generative-ai": "Gemini",
}
GROUPS: Final = {
    "text": "Words",
    "media": "Media",
    "tools": "Tools",
    "calls": "Calls",
    "choice": "Choice",
    "reasoning": "Reasoning",
    "output": "Format",
    "knobs": "Knobs",
    "state": "State",
}
# Losses that strict mode refuses; the others are put back, moved or added.
LOSSY: Final = ("dropped", "clamped", "emulated")

Cell = dict[str, Any]

INTRODUCTION: Final = """# Protocol matrix

Which client can speak to which provider, and what happens on the way. Written by `make docs` from
the golden files of `tests/conformance`; never by hand.

A **scenario** is one idea that a client can ask for (a PDF, a forced tool, a seed …). Each is
written in every client dialect that has words for it, sent to every upstream protocol, and judged
by a simulated vendor and by the vendor's own SDK types. The models are those of
`tests/conformance/upstreams.py`: another model of the same protocol may know more or less.

- **lossless**: the vendor gets all of it. Names that are restored on the way back, content that
  had to move and placeholders that a vendor insists on are reported, and count as lossless.
- **declared**: some knob was dropped, clamped or said in other words. The answer's loss report
  names it; in strict mode the request is refused instead.
- **refused**: a 400 that names the field. Content is never dropped.
"""


def outcome(cell: Cell) -> str:
    if "refused" in cell:
        return "refused"
    return "declared" if cell["strict_mode"] == "refused" else "lossless"


def upstreams() -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob("*/replies.json"))


def read(upstream: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / upstream / f"{name}.json").read_text())
    return found


def counts(upstream: str, group: str, dialect: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in read(upstream, f"requests-{group}").values():
        for cell in row["cells"]:
            if dialect in cell["dialects"]:
                found[outcome(cell)] += 1
    return found


def summary(found: Counter[str]) -> str:
    if not found:
        return "–"
    return " · ".join(
        f"{found[kind]}{mark}"
        for kind, mark in (("lossless", " ✓"), ("declared", " ~"), ("refused", " ✗"))
        if found[kind]
    )


def overview(dialect: str) -> list[str]:
    lines = [
        f"### {DIALECTS[dialect]} clients (`{dialect}`)",
        "",
        "| Upstream | " + " | ".join(GROUPS.values()) + " |",
        "|---" * (len(GROUPS) + 1) + "|",
    ]
    for upstream in upstreams():
        cells = [summary(counts(upstream, group, dialect)) for group in GROUPS]
        lines.append(f"| `{upstream}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def cannot_say() -> list[str]:
    lines = [
        "## What a dialect has no words for",
        "",
        "These scenarios cannot be asked by such a client, whatever the upstream.",
        "",
        "| Dialect | Scenario | Why |",
        "|---|---|---|",
    ]
    for dialect in DIALECTS:
        for group in GROUPS:
            for name, row in read(dialect, f"asked-{group}").items():
                if "cannot_say" in row:
                    lines.append(f"| {DIALECTS[dialect]} | {name} | {text(row['cannot_say'])} |")
    return [*lines, ""]


def details(upstream: str) -> list[str]:
    lines = [f"### `{upstream}`", "", "| Asked | By | What happens |", "|---|---|---|"]
    for group in GROUPS:
        for row in read(upstream, f"requests-{group}").values():
            for cell in row["cells"]:
                told = happens(cell)
                if told:
                    everybody = len(row["cells"]) == 1
                    by = "all" if everybody else ", ".join(DIALECTS[d] for d in cell["dialects"])
                    lines.append(f"| {text(row['asks'])} | {by} | {told} |")
    return [*lines, "", *replies(upstream), ""]


def happens(cell: Cell) -> str:
    if "refused" in cell:
        return f"**refused**: {text(cell['refused']['message'])}"
    lossy = [loss for loss in cell["losses"] if loss.partition(": ")[2].split(" ")[0] in LOSSY]
    told = "<br>".join(text(loss) for loss in lossy)
    if cell.get("vendor_refuses"):
        told += "<br>" * bool(told) + f"passed on; the vendor says: {text(cell['vendor_refuses'])}"
    return told


def replies(upstream: str) -> list[str]:
    lines: list[str] = []
    for row in read(upstream, "replies").values():
        if "never_asked" in row:
            continue
        for cell in row["cells"]:
            told = [*cell.get("losses", ()), *cell.get("differs", ())]
            if "error" in cell:
                told = [f"an error: {cell['error']}"]
            if told:
                by = ", ".join(DIALECTS[dialect] for dialect in cell["dialects"])
                lines.append(f"| {text(row['asks'])} | {by} | {'<br>'.join(map(text, told))} |")
    if not lines:
        return ["Answers reach every dialect whole."]
    return ["| Answered | To | What differs |", "|---|---|---|", *lines]


def text(value: str) -> str:
    """One table cell of Markdown."""
    escaped = value.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
    return escaped if len(escaped) <= 300 else escaped[:297] + "…"


def page() -> str:
    lines = [
        INTRODUCTION,
        "## Requests",
        "",
        "How many scenarios of each kind are lossless ✓, have declared losses ~, or are refused ✗.",
        "",
    ]
    for dialect in DIALECTS:
        lines += overview(dialect)
    lines += cannot_say()
    lines += [
        "## Upstream by upstream",
        "",
        "Everything that is not lossless, and how answers differ from what the vendor meant.",
        "",
    ]
    for upstream in upstreams():
        lines += details(upstream)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit("docs/protocol-matrix.md is stale: run `make docs`")
        return
    PAGE.write_text(page())
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
