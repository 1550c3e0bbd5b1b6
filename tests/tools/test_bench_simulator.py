"""The bench asks what it says it asks, and reads whole answers."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.simulator_server import SimulatorServer, simulator, simulator_door
from tools import bench_simulator
from tools.bench_simulator import LOADS, Connection, Load

__all__ = ["simulator", "simulator_door"]


@pytest.mark.parametrize("load", LOADS, ids=[load.what for load in LOADS])
def test_every_load_is_answered_whole(simulator: SimulatorServer, load: Load) -> None:
    port = urlsplit(simulator.url).port
    assert port is not None
    connection = Connection(port, load)
    try:
        for _ in range(2):
            connection.send()
            answer = connection.receive()
            assert answer.count(b"data: ") >= (load.per_answer if load.per_answer > 1 else 0)
            assert answer.endswith((b"}", b"0\r\n\r\n"))
    finally:
        connection.close()
    assert simulator.rules() == []


def test_an_answer_that_is_none_ends_the_bench(simulator: SimulatorServer) -> None:
    port = urlsplit(simulator.url).port
    assert port is not None
    connection = Connection(port, Load("x", "/openai/v1/nothing", {}, "answers", 1, 0))
    try:
        connection.send()
        with pytest.raises(SystemExit, match="404"):
            connection.receive()
    finally:
        connection.close()


def test_a_missed_target_says_so() -> None:
    load = LOADS[0]
    assert bench_simulator.row(load, 1e6 / load.target).endswith("met |")
    assert bench_simulator.row(load, 2e6 / load.target).endswith("missed |")
