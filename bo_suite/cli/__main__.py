"""`python -m bo_suite.cli` is `bo-suite`."""

from bo_suite.cli import main

main()
