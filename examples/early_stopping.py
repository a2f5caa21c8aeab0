"""A network on handwritten digits whose bad trainings end early, and what their learning curves show.

    python examples/early_stopping.py --budget 40 --storage digits.db --out pictures

ASHA judges each training after 1, 3, 9 and 27 epochs of 81. Kill it, and start it again with the same
command: it goes on, and a training goes on from its last epoch. It writes curves.png, rungs.png and, if a
training was stopped, expected.png: how the curve of one that went furthest was expected to go on.
"""

import argparse
import pickle
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from bo_suite import Float, Int, Space, minimize
from bo_suite.plot import plot_curves, plot_rungs
from bo_suite.run.reporting import Reporter
from bo_suite.run.schedulers import ASHA

SPACE = Space(
    {
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "width": Int(4, 128, log=True),
        "alpha": Float(1e-6, 1.0, log=True),
        "batch": Int(16, 256, log=True),
    }
)

EPOCHS = 81


def train(params: dict[str, Any], report: Reporter) -> None:
    """Reports the cross-entropy of held-out digits after each epoch."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    saved = report.folder / "network.pickle"
    network = MLPClassifier(
        (params["width"],),
        learning_rate_init=params["learning_rate"],
        alpha=params["alpha"],
        batch_size=params["batch"],
        random_state=0,
    )
    epoch = 0
    if saved.exists():
        epoch, network = pickle.loads(saved.read_bytes())
    while epoch < EPOCHS:
        epoch += 1
        network.partial_fit(images[:1000], labels[:1000], classes=range(10))
        written = saved.with_suffix(".new")
        written.write_bytes(pickle.dumps((epoch, network)))
        written.rename(saved)
        loss = log_loss(labels[1000:], network.predict_proba(images[1000:]), labels=range(10))
        if report(epoch, loss) == "stop":
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=40, help="trainings in all")
    parser.add_argument("--storage", type=Path, help="a file that keeps the run")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder of the pictures")
    given = parser.parse_args()
    result = minimize(train, SPACE, budget=given.budget, storage=given.storage, scheduler=ASHA(EPOCHS))
    spent = sum(trial.step for trial in result.trials)
    print(f"{result.best.value:.4f} with {result.best.params}")
    print(f"{spent} epochs instead of {len(result.trials) * EPOCHS}")
    given.out.mkdir(parents=True, exist_ok=True)
    plot_curves(result).savefig(given.out / "curves.png", dpi=150)
    plot_rungs(result).savefig(given.out / "rungs.png", dpi=150)
    stopped = [trial for trial in result.trials if trial.state == "stopped" and trial.value is not None]
    if stopped:
        longest = max(stopped, key=lambda trial: trial.step)
        plot_curves(result, trial=longest.id).savefig(given.out / "expected.png", dpi=150)


if __name__ == "__main__":
    main()
