"""Runs: evaluate suggestions, in this process or in workers, until a budget or a rule ends the run."""
