"""A chemist's month: past experiments, batches of eight, a typo, a wider range, a solvent that is banned.

    python examples/lab.py --out lab
    python examples/lab.py --out lab --compare 10

The reaction is simulated, with noise of two per cent yield, so the best recipe is known. The first line runs
the month and writes past.csv, run.db, slices.png and importance.png to the folder `lab`. The second runs it
with ten seeds, beside a month of as many experiments that has the same past rows but never corrects, repeats
or extends anything.
"""

import argparse
import csv
import itertools
import math
import random
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.plot import plot_importance, plot_slices
from bo_suite.storage.csv_files import read_csv

SPACE = Space(
    {
        "temperature": Float(20, 90, step=1),  # °C
        "hours": Float(0.5, 24, log=True),
        "equivalents": Float(1.0, 3.0, step=0.1),
        "catalyst": Float(0.5, 5.0, step=0.1),  # mol %
        "solvent": Choice(["toluene", "dioxane", "DMF", "ethanol"]),
    }
)
HOTTER = Float(20, 130, step=1)
WITHOUT_DMF = Choice(["toluene", "dioxane", "ethanol"])

HEADINGS = {"temperature": "T (°C)", "equivalents": "eq.", "catalyst": "cat. (mol%)"}
"""What the lab book calls the parameters, where it has other names."""

HOUSE_RECIPE = {"temperature": 60, "hours": 4.0, "equivalents": 1.5, "catalyst": 2.0, "solvent": "dioxane"}
PAST, BATCH, TYPO, NOISE = 30, 8, 7, 2.0

Recipe = dict[str, Any]


def true_yield(recipe: Recipe) -> float:
    """Yield in per cent: heat speeds the reaction up and, above 110 °C, destroys the product."""
    solvent = {"toluene": 0.88, "dioxane": 0.95, "DMF": 0.96, "ethanol": 0.6}[recipe["solvent"]]
    rate = math.exp((recipe["temperature"] - 80) / 22) * (recipe["catalyst"] / 2) ** 0.6
    converted = 1 - math.exp(-rate * recipe["hours"] / 9)
    survived = math.exp(-0.04 * math.exp((recipe["temperature"] - 112) / 9) * recipe["hours"])
    selective = 1 - 0.15 * (recipe["equivalents"] - 1.6) ** 2 - 0.012 * (recipe["catalyst"] - 2) ** 2
    slow = 1 - 0.035 * math.log(recipe["hours"] / 0.5)
    return 100 * solvent * converted * survived * max(selective, 0.0) * slow


def best_yield() -> float:
    """The highest yield that any recipe up to 130 °C has without DMF, on a fine grid of hours."""
    hours = [0.5 * 48 ** (step / 200) for step in range(201)]
    recipes = itertools.product(range(60, 131), hours, [1.6], [value / 10 for value in range(10, 51, 2)])
    names = ("temperature", "hours", "equivalents", "catalyst")
    return max(
        true_yield(dict(zip(names, recipe, strict=True)) | {"solvent": "dioxane"}) for recipe in recipes
    )


class Lab:
    """Measures yields with noise, and counts the experiments."""

    def __init__(self, seed: int) -> None:
        self._random, self.experiments = random.Random(seed), 0

    def measure(self, recipe: Recipe) -> float:
        self.experiments += 1
        return round(true_yield(recipe) + self._random.gauss(0, NOISE), 1)

    def past_recipe(self) -> Recipe:
        """What was tried before: cold, and never long."""
        draw = self._random
        return {
            "temperature": draw.randint(25, 70),
            "hours": round(draw.uniform(0.5, 10), 1),
            "equivalents": draw.randint(10, 30) / 10,
            "catalyst": draw.randint(5, 50) / 10,
            "solvent": draw.choice(["toluene", "dioxane", "DMF", "ethanol"]),
        }

    def run(self, optimizer: Optimizer, count: int) -> None:
        """Asks for some recipes at once, and tells their yields."""
        for trial in optimizer.ask(count):
            optimizer.tell(trial, self.measure(trial.params))


def write_past(path: Path, seed: int) -> float:
    """Thirty rows of the lab book, one with a typo; returns the yield that it should have had."""
    lab, right = Lab(seed), 0.0
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*(HEADINGS.get(name, name) for name in SPACE.names), "yield"])
        for number in range(PAST):
            recipe = lab.past_recipe()
            value = lab.measure(recipe)
            if number == TYPO:
                right, value = value, 99.1
            writer.writerow([*recipe.values(), value])
    return right


def month(folder: Path, seed: int) -> tuple[Optimizer, Lab]:
    """The chemist's month; the Optimizer is open, and its file is in the folder."""
    lab, right = Lab(seed + 1000), write_past(folder / "past.csv", seed)
    optimizer = Optimizer(SPACE, seed=seed, direction="maximize", storage=folder / "run.db", repeats=True)
    past = read_csv(folder / "past.csv", SPACE, columns=HEADINGS, value="yield")
    optimizer.add_all(past.observations)

    optimizer.enqueue(HOUSE_RECIPE)  # the recipe that the house has always used comes first
    lab.run(optimizer, BATCH)
    optimizer.amend(TYPO, right)  # "99.1? That was another flask."
    lab.run(optimizer, BATCH)
    optimizer.enqueue([optimizer.best.params] * 4)  # how noisy is it?
    lab.run(optimizer, 4)

    # The best recipes are as hot as was allowed, and the safety officer bans a solvent.
    optimizer.extend({"temperature": HOTTER, "solvent": WITHOUT_DMF})
    lab.run(optimizer, BATCH)
    lab.run(optimizer, BATCH)
    optimizer.enqueue([optimizer.recommend()] * 4)
    lab.run(optimizer, 4)
    return optimizer, lab


def plain_month(seed: int, folder: Path, experiments: int) -> Recipe:
    """The best recipe of as many experiments, and the same past rows, without any of that."""
    lab = Lab(seed + 1000)
    write_past(folder / "past.csv", seed)
    optimizer = Optimizer(SPACE, seed=seed, direction="maximize")
    for row in read_csv(folder / "past.csv", SPACE, columns=HEADINGS, value="yield").observations:
        assert row.value is not None
        optimizer.add(row.params, row.value)
    while lab.experiments < experiments:
        lab.run(optimizer, BATCH)
    return optimizer.recommend()


def report(optimizer: Optimizer, lab: Lab, folder: Path) -> None:
    """Prints what came of the month, and draws what the model believes."""
    recipe = optimizer.recommend()
    belief = optimizer.predict(recipe).iloc[0]
    print(f"{len(optimizer.trials)} experiments, {lab.experiments} of them new; recommended:")
    print("  " + ", ".join(f"{name} {value}" for name, value in recipe.items()))
    print(f"  yield {belief['mean']:.1f} % ({belief['low']:.1f} to {belief['high']:.1f})", end="")
    print(f", in truth {true_yield(recipe):.1f} %; the best there is: {best_yield():.1f} %")
    print("importance:", optimizer.importance()["total"].round(2).to_dict())
    print(optimizer.to_frame(history=True)[["action", "trial", "before_value", "after_value"]].to_string())
    plot_slices(optimizer).savefig(folder / "slices.png")
    plot_importance(optimizer).savefig(folder / "importance.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("lab"), help="a new folder for the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", type=int, metavar="SEEDS", help="compare this number of months")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    if args.compare is None:
        report(*month(args.out, args.seed), args.out)
        return
    gains = []
    for seed in range(args.compare):
        folder = args.out / f"{seed}"
        folder.mkdir()
        optimizer, lab = month(folder, seed)
        with_all = true_yield(optimizer.recommend())
        plain = true_yield(plain_month(seed, folder, lab.experiments))
        gains.append(with_all - plain)
        print(f"seed {seed}: {with_all:.1f} % with corrections, {plain:.1f} % without", flush=True)
    better = sum(gain > 0 for gain in gains)
    print(f"better in {better} of {len(gains)}, on average by {sum(gains) / len(gains):.1f} % yield")


if __name__ == "__main__":
    main()
