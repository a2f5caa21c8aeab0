"""How often the tests of a suite call identical methods different, and how often they find a real difference.

    python benchmarks/calibration.py

Suites are simulated: final outcomes of methods by problem and seed, in three distributions. Identical methods
draw from the same one; a better method is one standard deviation of an outcome below the other. Of more than
two methods, any pair that is called different counts, after Holm's correction. The last line is of random
search against itself on three problems of the same values, once with equal draws on all three, as if a seed
were used as it is given, and once with the draws of a suite, which are others on each.
"""

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bo_suite.bench.signed_ranks import differences, holm, signed_rank_p
from bo_suite.bench.unit import seed_on
from bo_suite.problems import get_problem

SHAPES = ((10, 20), (3, 5), (1, 20))
"""Problems and seeds."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "lognormal": lambda generator, shape: generator.lognormal(size=shape) / np.sqrt((np.e - 1.0) * np.e),
    "t, 3 degrees": lambda generator, shape: generator.standard_t(3.0, shape) / np.sqrt(3.0),
}
"""Outcomes of standard deviation one."""


def separated(outcomes: np.ndarray) -> bool:
    """Whether any two methods of outcomes (methods, problems, seeds) are called different."""
    strata = np.repeat(np.arange(outcomes.shape[1]), outcomes.shape[2])
    pairs = itertools.combinations(outcomes, 2)
    p = [signed_rank_p(differences(a.ravel(), b.ravel()), strata) for a, b in pairs]
    return bool((holm(p) < 0.05).any())


def rate(draw: Draw, shape: tuple[int, int], methods: int, shift: float, suites: int) -> float:
    """Share of simulated suites in which methods are called different; the first is better by the shift."""
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(suites):
        outcomes = draw(generator, (methods, *shape))
        outcomes[0] -= shift
        found += separated(outcomes)
    return found / suites


def random_search(own: bool, suites: int) -> float:
    """Share of suites in which random search is called different from random search with other seeds."""
    problem = get_problem("branin")
    assert problem.vectorized is not None
    names, seeds, found = ("one", "two", "three"), 10, 0
    for suite in range(suites):
        outcomes = np.empty((2, len(names), seeds))
        for method, place, seed in np.ndindex(outcomes.shape):
            given = (2 * suite + method) * seeds + seed
            key = seed_on(names[place], given) if own else given
            draws = torch.from_numpy(np.random.default_rng(key).random((20, problem.space.dim)))
            outcomes[method, place, seed] = float(
                problem.vectorized(problem.space.encoding.values(draws)).min()
            )
        found += separated(outcomes)
    return found / suites


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", type=int, default=10_000)
    suites = parser.parse_args().suites
    table = Table(title=f"share of {suites} simulated suites in which methods are called different")
    heads = ("identical, 2 methods", "identical, 6 methods", "one standard deviation apart")
    for head in ("outcomes", "problems x seeds", *heads):
        table.add_column(head)
    for (name, draw), shape in itertools.product(DISTRIBUTIONS.items(), SHAPES):
        cases = ((2, 0.0), (6, 0.0), (2, 1.0))
        rates = [f"{rate(draw, shape, methods, shift, suites):.1%}" for methods, shift in cases]
        table.add_row(name, f"{shape[0]} x {shape[1]}", *rates)
    Console().print(table)
    few = max(suites // 10, 1)
    equal, own = random_search(False, few), random_search(True, few)
    print(f"random search against itself, {few} suites: equal draws {equal:.1%}, own draws {own:.1%}")


if __name__ == "__main__":
    main()
