"""The choice of a model of scikit-learn together with its parameters: the regret after 40 and 80 evaluations.

    python benchmarks/model_choice.py run --methods bo_suite,tpe_group,random --seeds 0:10 --out /tmp/choice
    python benchmarks/model_choice.py report --out /tmp/choice

Four data sets, 35 parameters of six models, most of them conditional, three levels deep. Every method at its
defaults, paired seeds, one BLAS thread. `tpe_group` is Optuna's TPESampler(multivariate=True, group=True).
Regret is the best value minus the smallest of all stored runs. Tables: median log10 regret by problem, mean
ranks with 95% intervals, signed-rank tests after Holm's correction, and seconds an ask.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

from outcome_runs import Claim, main

from bo_suite.problems.model_choice import MODEL_CHOICE

CLAIM = Claim(doc=__doc__, suites={"model-choice": tuple(MODEL_CHOICE)}, gap="regret", at=(40, 80))

if __name__ == "__main__":
    main(CLAIM)
