"""A small Django app that is added to the served system, so that tests can look into it."""
