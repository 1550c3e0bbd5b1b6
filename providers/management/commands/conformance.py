"""`manage.py conformance`: what any OpenAI-, Anthropic- or Gemini-shaped endpoint really does."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.kit import json
from controlplane.kit.errors import GatewayError
from controlplane.kit.progress import Progress
from controlplane.kit.secret import Secret
from providers.catalog.services import note_probe
from providers.protocols import registry
from providers.signing.schemes import AuthScheme
from providers.simulator.conformance.cases import cases
from providers.simulator.conformance.run import Endpoint, Result, features, run
from providers.upstream.client import UpstreamClient
from providers.upstream.guard import Guard
from tenants.audit.actor import acting_as

_MARKS = {"pass": "✓", "loss": "≈", "refused": "–", "fail": "✗"}
_SCHEMES = {
    "anthropic-messages": AuthScheme(scheme="header", header="x-api-key"),
    "google-generative-ai": AuthScheme(scheme="header", header="x-goog-api-key"),
    "azure-openai-responses": AuthScheme(scheme="header", header="api-key"),
}


class Command(BaseCommand):
    help = (
        "Runs the conformance cases as a client against an endpoint, prints what it does and "
        "does not do, and can note the result as facts about a registered provider."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--base-url", required=True, help="as in https://host/v1")
        parser.add_argument("--protocol", required=True, help="slug, as in openai-completions")
        parser.add_argument("--model", required=True)
        parser.add_argument(
            "--key-file", help="file with the key; without it the key is read from standard input"
        )
        parser.add_argument("--no-key", action="store_true", help="the endpoint wants no key")
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="an identifier"
        )
        parser.add_argument("--json", help="also write the results to this file")
        parser.add_argument(
            "--store", metavar="PROVIDER", help="note the capabilities of this registration"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        protocol: str = options["protocol"]
        if protocol not in registry.slugs():
            raise CommandError(f"Choose --protocol from: {', '.join(registry.slugs())}.")
        endpoint = Endpoint(
            base_url=options["base_url"],
            protocol=protocol,
            model=options["model"],
            key=None if options["no_key"] else self._key(options["key_file"]),
            scheme=_SCHEMES.get(protocol, AuthScheme()),
            identifiers=tuple(self._identifier(text) for text in options["set"]),
        )
        results = asyncio.run(self._run(endpoint))
        self._print(endpoint, results)
        if options["json"]:
            Path(options["json"]).write_bytes(json.dumps(results))
        if options["store"]:
            self._store(options["store"], results)
        if any(result.verdict == "fail" for result in results):
            sys.exit(1)

    def _key(self, file: str | None) -> Secret:
        # Not an argument: those show in the list of processes.
        text = Path(file).read_text() if file else sys.stdin.readline()
        if not text.strip():
            raise CommandError("Give the key by --key-file or standard input, or say --no-key.")
        return Secret(text.strip())

    def _identifier(self, text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"Write --set NAME=VALUE, not {text!r}.")
        return name, value

    async def _run(self, endpoint: Endpoint) -> list[Result]:
        # Whoever starts this command has a shell on this machine: private addresses are theirs.
        client = UpstreamClient(guard=Guard(["0.0.0.0/0", "::/0"]))
        try:
            with Progress("conformance", len(cases(endpoint.model))) as progress:
                return await run(endpoint, client, lambda _: progress(1))
        finally:
            await client.close()

    def _print(self, endpoint: Endpoint, results: list[Result]) -> None:
        self.stdout.write(f"{endpoint.protocol} at {endpoint.base_url}, model {endpoint.model}\n")
        for result in results:
            mark = _MARKS[result.verdict]
            self.stdout.write(
                f"  {mark} {result.case:14} {result.milliseconds:8.1f} ms  {result.detail}"
            )
            for loss in result.losses:
                self.stdout.write(f"      ≈ {loss}")
        counted = {
            verdict: sum(result.verdict == verdict for result in results) for verdict in _MARKS
        }
        self.stdout.write(
            f"{counted['pass']} pass, {counted['loss']} with a declared loss, "
            f"{counted['refused']} refused clearly, {counted['fail']} fail"
        )

    def _store(self, slug: str, results: list[Result]) -> None:
        found = features(results)
        try:
            with acting_as("command", None, "conformance", ""):
                note_probe(slug=slug, features=found)
        except GatewayError as error:
            raise CommandError(error.message) from None
        known = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in found.items())
        self.stdout.write(f"Noted of {slug}: {known}.")
