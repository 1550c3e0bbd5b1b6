#!/usr/bin/env python
"""Django's command line. `./manage.py help` lists what it can do."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.local")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        if sys.argv[1:2] in (["first_run"], ["simulator"]):
            # The settings need secrets: the one is about to make them, the other never uses them.
            from controlplane.first_run import secret_files

            secret_files.lend()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
