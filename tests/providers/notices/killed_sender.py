"""A process that delivers one alert as the background process does: to be killed meanwhile.

python killed_sender.py DATABASE_NAME
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.test")
    import django

    django.setup()
    from django.db import connection

    # The database of the suite that started us.
    connection.settings_dict["NAME"] = sys.argv[1]

    from controlplane.kit import clock
    from controlplane.kit.jobs import runner, services
    from controlplane.kit.jobs.models import Job
    from tenants.alerts.services import DELIVER_JOB

    claim = services.claim(job_id=Job.objects.get(kind=DELIVER_JOB).pk, now=clock.now())
    assert claim is not None
    runner.run(claim)
