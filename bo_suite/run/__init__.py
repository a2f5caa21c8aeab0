"""Runs: evaluate what is suggested, here or in worker processes, until a budget or a rule ends it."""
