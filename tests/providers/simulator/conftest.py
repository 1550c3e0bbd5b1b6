"""The simulator over real HTTP."""

from tests.one_trust_store import one_trust_store
from tests.simulator_server import simulator, simulator_door

__all__ = ["one_trust_store", "simulator", "simulator_door"]
