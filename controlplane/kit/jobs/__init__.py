"""Work that must not be lost: the database row is the job, Celery only wakes us up.

`services.enqueue` writes a row, `registry.handler` names the function for its kind,
`runner.run_due` claims due rows and runs them. A row survives every kill; an attempt that
died is picked up again when its lease is over.
"""
