"""Small helpers that know nothing of tenants or providers."""
