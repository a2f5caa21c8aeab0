"""Methods on problems with constraints: the feasible regret after 60 and 100 evaluations.

    python benchmarks/limits.py run --methods bo_suite,scbo,optuna_gp --seeds 0:10 --out /tmp/limits
    python benchmarks/limits.py report --out /tmp/limits

Every method at its defaults, paired seeds, one BLAS thread, at most an hour a run. Feasible regret is the
best feasible value minus the optimum, or the best known value; a run without a feasible point counts as the
worst. Tables: median log10 regret by problem, mean ranks with 95% intervals, signed-rank tests after Holm's
correction, and the number of the first feasible evaluation.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from outcome_runs import Claim, main

from bo_suite.problems.outcomes import OUTCOME_SUITES

CLAIM = Claim(
    doc=__doc__,
    suites={name: tuple(OUTCOME_SUITES[name]) for name in ("constrained", "constrained-field")},
    gap="feasible regret",
)

if __name__ == "__main__":
    main(CLAIM)
