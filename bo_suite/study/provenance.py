"""The provenance of a suggestion as stored in its trial, and the start of the next fit read from it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from bo_suite.acquisition import Acquisition
from bo_suite.data import Dataset
from bo_suite.storage.trial import Trial
from bo_suite.study.step import Step
from bo_suite.surrogates import WarmStart

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""An address in a repr, which differs between processes."""


def fingerprint(acquisition: Acquisition, trials: Sequence[Trial], *, reports: bool = False) -> str:
    """A hash of what a fit depends on: the acquisition, outcomes with what is known beside these, and
    failures, but not pending trials.

    Args:
        acquisition: whose fit it is.
        trials: that it depends on.
        reports: whether it depends on what trials have reported.
    """
    digest = hashlib.blake2b(_ADDRESS.sub("", repr(acquisition)).encode(), digest_size=8)
    for trial in trials:
        if trial.state != "running":
            outcomes = trial.outcomes
            named = () if outcomes is None else (outcomes, trial.stds)
            known = {"gradient": trial.gradient, "params_std": trial.params_std}
            more = (known,) if any(known.values()) else ()
            digest.update(repr((trial.id, trial.value, trial.std, *named, *more)).encode())
        if reports and trial.reports:
            digest.update(repr((trial.id, trial.reports[-1])).encode())
    return digest.hexdigest()


def provenance_of(
    step: Step, number: int, data: Dataset, acquisition: Acquisition, fitted_to: str
) -> dict[str, Any]:
    """How the row of a step was chosen, in JSON values.

    Args:
        step: the step.
        number: index from which its random numbers derive.
        data: from which the row was chosen.
        acquisition: that chose it.
        fitted_to: fingerprint of the data.
    """
    source: dict[str, Any] = {"source": step.source, "number": number, "observations": data.x.shape[-2]}
    if step.source in ("acquisition", "fallback"):
        source["acquisition"] = repr(acquisition)
    if step.source == "acquisition":
        source["fit_ms"] = round(1e3 * step.fit_seconds, 3)
        source["search_ms"] = round(1e3 * step.search_seconds, 3)
    if step.start is not None:
        source["hyperparameters"] = step.start.hyperparameters.tolist()
        source["data"] = fitted_to
    if step.success is not None:
        source["success"] = step.success.hyperparameters.tolist()
        source["failures"] = step.success.observations - data.x.shape[-2]
    if step.feasibility is not None:
        source["feasibility"] = step.feasibility.hyperparameters.tolist()
        source["constrained"] = step.feasibility.observations
    if step.notes:
        source["chosen"] = dict(step.notes)
    if step.repeat:
        source["repeat"] = True
    if step.reason is not None:
        source["fallback"] = step.reason
    return source


def last_start(trials: Sequence[Trial], fitted_to: str, device: torch.device) -> WarmStart | None:
    """Start of the next fit, from the last suggestion that fitted a model; settled if the data are the same.

    Args:
        trials: in order of id.
        fitted_to: fingerprint of the data of the next fit.
        device: of the tensors.
    """
    for trial in reversed(trials):
        provenance = trial.provenance
        if (start := start_in(provenance, device)) is not None:
            return replace(start, settled=provenance.get("data") == fitted_to)
    return None


def start_in(provenance: Mapping[str, Any], device: torch.device) -> WarmStart | None:
    """Start of the next fit as stored in a provenance; None if no model was fitted."""
    if "hyperparameters" not in provenance:
        return None

    def vector(name: str) -> torch.Tensor:
        return torch.tensor(provenance[name], dtype=torch.float64, device=device)

    count, success, feasibility = provenance["observations"], None, None
    if "success" in provenance:
        success = WarmStart(vector("success"), count + provenance["failures"])
    if "feasibility" in provenance:
        feasibility = WarmStart(vector("feasibility"), provenance["constrained"])
    return WarmStart(vector("hyperparameters"), count, success, feasibility)
