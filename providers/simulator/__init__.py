"""Every vendor, played on this machine: for first runs, tests and rehearsed outages."""
