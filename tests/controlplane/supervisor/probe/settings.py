"""The system as `make run` has it, plus the probe."""

from controlplane.settings.local import *  # noqa: F403  (settings files are layers)

INSTALLED_APPS = [*INSTALLED_APPS, "tests.controlplane.supervisor.probe"]  # noqa: F405
ROOT_URLCONF = "tests.controlplane.supervisor.probe.urls"
# No vendor is called here.
SIMULATOR = False
