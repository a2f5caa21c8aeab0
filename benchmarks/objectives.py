"""Methods on problems with two to four objectives: the gap of the hypervolume after 60 and 100 evaluations.

    python benchmarks/objectives.py run --methods bo_suite,tpe,optuna_gp --seeds 0:10 --out /tmp/objectives
    python benchmarks/objectives.py report --out /tmp/objectives

Every method at its defaults, paired seeds, one BLAS thread, at most an hour a run. The gap is to the largest
hypervolume that is known, of the problem or of any stored run, up to the reference point of the problem.
BoTorch's loop is given that reference point, as in its tutorial; the others infer theirs or need none.
Tables: median log10 gap by problem, mean ranks with 95% intervals, and signed-rank tests after Holm's
correction.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from outcome_runs import Claim, main

from bo_suite.problems.outcomes import OUTCOME_SUITES

CLAIM = Claim(
    doc=__doc__,
    suites={name: tuple(OUTCOME_SUITES[name]) for name in ("multi-objective", "constrained-multi-objective")},
    gap="hypervolume gap",
)

if __name__ == "__main__":
    main(CLAIM)
