"""Index: the background process finds the jobs of each concept here."""

from providers.files import tasks as files
from providers.health import tasks as health
from providers.inventory import tasks as inventory
from providers.metrics import tasks as metrics
from providers.notices import tasks as notices
from providers.oauth import tasks as oauth
from providers.routing import tasks as routing

__all__ = ["files", "health", "inventory", "metrics", "notices", "oauth", "routing"]
