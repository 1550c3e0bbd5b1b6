"""`manage.py simulator`: every vendor on this machine, alone and without a database."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from providers.simulator import addresses, serving
from providers.simulator.day import BadDay, Day, moment, read_text
from providers.simulator.faults import FAULTS
from providers.simulator.scenarios import SCENARIOS
from providers.simulator.world import World

_ACTIONS: Final = ("serve", "script", "list")
_EXAMPLE: Final = """
examples:
  manage.py simulator --port 9000          all vendors, until Ctrl-C
  manage.py simulator script outage.yaml   the same, while a day's outages are played
  manage.py simulator list                 what may stand after + in a model's name
"""


class Command(BaseCommand):
    help = "Plays every vendor on this machine: for tests, demonstrations and rehearsed outages."
    # It needs neither the database nor the vault.
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name,
            subcommand,
            epilog=_EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=_ACTIONS, default="serve")
        parser.add_argument("file", nargs="?", help="The script of a day, YAML or JSON.")
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
        parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free port.")
        parser.add_argument("--seed", default="", help="Ids and texts derive from it.")
        parser.add_argument(
            "--clock", default="", help="Freeze the simulated clock at this ISO time."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        action, file = options["action"], options["file"]
        if action == "list":
            self._list()
            return
        if (action == "script") != bool(file):
            raise CommandError("Name the file: manage.py simulator script FILE")
        world = World(seed=options["seed"] or "sim")
        try:
            if options["clock"]:
                world.set_clock(moment(options["clock"], "--clock"))
            day = read_text(Path(file).read_text("utf-8")) if file else None
        except BadDay as error:
            raise CommandError(f"{file or '--clock'}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from None
        self._serve(world, day, options["host"], options["port"])

    def _list(self) -> None:
        self.stdout.write("Scenarios: sim-gpt+NAME, sim-gpt+NAME+OPTION=VALUE")
        for name, scenario in SCENARIOS.items():
            self.stdout.write(f"  {name:<12}  {scenario.summary}")
        self.stdout.write("\nFaults: in the model's name, in the header x-sim-script, or scheduled")
        for name, summary in FAULTS.items():
            self.stdout.write(f"  {name:<12}  {summary}")

    def _serve(self, world: World, day: Day | None, host: str, port: int) -> None:
        if not 0 <= port <= 65535:
            raise CommandError(f"Cannot listen on port {port}: ports are 0 to 65535.")
        try:
            listener = serving.bind(host, port)
        except OSError as error:
            raise CommandError(f"Cannot listen on {host} port {port}: {error}") from None
        timeline = None
        if day is not None:
            timeline = serving.Timeline(day, day.play(world), world)

        def when_ready() -> None:
            self.stdout.write("The simulator answers at these base URLs:")
            self.stdout.write(addresses.table(serving.address_of(listener)))
            self.stdout.write(
                "Any key works but one that begins with `wrong`; any model whose name holds `sim`."
            )
            self.stdout.write("Ctrl-C stops.")
            self.stdout.flush()

        def tell(sentence: str) -> None:
            self.stdout.write(sentence)
            self.stdout.flush()

        with listener:
            serving.serve(world, listener, when_ready=when_ready, timeline=timeline, tell=tell)
