"""For the tests that run `manage.py` in a process of its own."""

from controlplane.settings.test import *  # noqa: F403
from controlplane.settings.test import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.tenants.vault.samples.apps.SamplesConfig"]
