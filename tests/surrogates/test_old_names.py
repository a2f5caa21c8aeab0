"""Names of version 0.8 of modules and classes still work, with a warning."""

import sys
from importlib import import_module

import pytest

from bo_suite import classifiers


@pytest.mark.parametrize("name", ["likelihoods", "natural", "quadrature", "training"])
def test_modules_of_variational_inference_have_their_old_names(name: str, monkeypatch) -> None:
    old, new = f"bo_suite.surrogates.{name}", f"bo_suite.surrogates.variational.{name}"
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
        assert import_module(old) is import_module(new)


def test_classes_of_classifiers_have_their_old_names() -> None:
    with pytest.warns(DeprecationWarning, match="Labelled is now WeightedExamples"):
        assert classifiers.Labelled is classifiers.WeightedExamples
    with pytest.warns(DeprecationWarning, match="LogOdds is now ClassifierScore"):
        assert classifiers.LogOdds is classifiers.ClassifierScore
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = classifiers.nothing
