"""Vendors' logins, played: strict about intervals, single-use codes and refresh tokens."""

from __future__ import annotations

import importlib
from typing import Final

from providers.simulator import faults
from providers.simulator.http import Handler, Request, Response, json_response
from providers.simulator.logins import outages
from providers.simulator.logins.asking import Declined, Forced, Play
from providers.simulator.wire import Refused
from providers.simulator.world import World

# Each module has ROUTES, for programs, and PAGES, for people. Outages hit only programs: the
# person who approves shall not have to be lucky.
_MODULES: Final = (
    "standard",
    "github",
    "copilot",
    "aws",
    "kiro",
    "codex",
    "claude",
    "google",
    "code_assist",
    "kilo",
    "openrouter",
)


def _program(path: str, play: Play) -> Handler:
    vendor = path.split("/")[1]

    async def handler(request: Request, world: World) -> Response:
        options = faults.options_of(request, "", vendor, world)
        try:
            instead = await faults.before(options, "", vendor, world)
            if instead is not None:
                return instead
            response = play(request, world)
        except Declined as declined:
            if declined.rule:
                world.violation(vendor, declined.rule, declined.detail)
            response = declined.response
        except Forced as forced:
            options = forced.options
            try:
                instead = await faults.before(options, "", vendor, world)
            except Refused as refused:
                return outages.answer(path, refused)
            response = instead or json_response({})
        except Refused as refused:
            return outages.answer(path, refused)
        return await faults.whole(response, options, world)

    return handler


def _person(play: Play) -> Handler:
    async def handler(request: Request, world: World) -> Response:
        return play(request, world)

    return handler


def _routes() -> tuple[tuple[str, str, Handler], ...]:
    found: list[tuple[str, str, Handler]] = []
    for name in _MODULES:
        module = importlib.import_module(f"providers.simulator.logins.{name}")
        found += [(method, path, _program(path, play)) for method, path, play in module.ROUTES]
        found += [(method, path, _person(play)) for method, path, play in module.PAGES]
    return tuple(found)


ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = _routes()
