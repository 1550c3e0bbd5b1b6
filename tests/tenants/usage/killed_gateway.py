"""A process that meters requests for ever and says which it has answered: to be killed.

    python killed_gateway.py DATABASE_NAME TENANT_ID REDIS_URL

Prints the id of each request after its settlement, as a gateway sends the last byte after it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

CALLERS = 8


async def main(tenant_id: uuid.UUID, redis_url: str) -> None:
    from tenants.usage.metering import Metering
    from tenants.usage.outcome import Facts, Outcome, TargetFacts

    metering = Metering(redis_url)
    await asyncio.to_thread(metering.limits.reload)
    metering.start()
    facts = Facts(
        tenant_id=tenant_id,
        model="m",
        input_tokens=10,
        output_tokens=20,
        nanos=lambda given, made: given + made,
    )

    async def caller() -> None:
        while True:
            request_id = uuid.uuid4().hex
            hold = await metering.begin(request_id, facts)
            await hold.attempt(TargetFacts(provider="acme", model="m"))
            await hold.settle(Outcome(input=7, output=3, cost_nanos=100))
            # One write, so that a kill cuts between lines and never inside one.
            os.write(1, f"{request_id}\n".encode())

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.test")
    import django

    django.setup()
    from django.db import connection

    # The database of the suite that started us.
    connection.settings_dict["NAME"] = sys.argv[1]
    asyncio.run(main(uuid.UUID(sys.argv[2]), sys.argv[3]))
