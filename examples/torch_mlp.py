"""A torch network on handwritten digits: learning rate, width, dropout and optimiser, in a resumable run.

    python examples/torch_mlp.py --budget 30 --storage mlp.db --plot mlp.png

Kill it, and start it again with the same command: it goes on with the suggestion that would have come next.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bo_suite import Choice, Float, Int, Space, minimize
from bo_suite.run.stopping import TargetValue, TimeLimit

SPACE = Space(
    {
        "learning_rate": Float(1e-4, 1.0, log=True),
        "width": Int(8, 256, log=True),
        "dropout": Float(0.0, 0.7),
        "optimiser": Choice(["SGD", "Adam", "RMSprop"]),
    }
)

EPOCHS, BATCH = 12, 64


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, then those held out, always the same."""
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order].float() / 16.0, labels[order]
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def held_out_loss(params: dict[str, Any]) -> float:
    """Cross-entropy of held-out digits after training; NaN where that diverges, which is a failure."""
    images, labels, test_images, test_labels = digits()
    torch.manual_seed(0)
    width = params["width"]
    network = nn.Sequential(
        nn.Linear(64, width),
        nn.ReLU(),
        nn.Dropout(params["dropout"]),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(params["dropout"]),
        nn.Linear(width, 10),
    )
    optimiser = getattr(torch.optim, params["optimiser"])(network.parameters(), lr=params["learning_rate"])
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network(test_images), test_labels))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=30, help="evaluations in all")
    parser.add_argument("--storage", type=Path, help="a file that keeps the run")
    parser.add_argument("--plot", default="mlp.png", help="where the picture goes")
    given = parser.parse_args()
    result = minimize(
        held_out_loss,
        SPACE,
        budget=given.budget,
        storage=given.storage,
        callbacks=[TimeLimit(600), TargetValue(0.05)],
    )
    print(f"{result.best.value:.4f} with {result.best.params}")
    print(f"stopped: {result.stopped or 'the budget is spent'}")
    result.plot().savefig(given.plot, dpi=150)


if __name__ == "__main__":
    main()
