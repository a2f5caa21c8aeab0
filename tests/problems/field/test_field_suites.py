"""The suite `field`: its names, classes and references; nothing here needs a library of the extra."""

import importlib.util
import re
import zlib

import pytest

from bo_suite.bench.suite import get_suite, named_problem, problems_of, suites
from bo_suite.errors import DataError
from bo_suite.problems import Problem, get_problem, problems
from bo_suite.problems.field import FIELD, FIELD_PROBLEMS, Reference, extra, field_references

CLASSES = {
    *(
        "smooth",
        "multimodal",
        "ill-conditioned",
        "noisy",
        "mixed",
        "categorical",
        "high-dimensional",
        "tuning",
    ),
}


def test_eight_classes_hold_at_least_ten_problems_each_and_eighty_together() -> None:
    assert set(FIELD) == CLASSES
    assert all(len(recipes) >= 10 for recipes in FIELD.values())
    names = [name for recipes in FIELD.values() for name in recipes]
    assert len(names) == len(set(names)) == len(FIELD_PROBLEMS) >= 80
    assert not set(names) & {*problems(), *suites()}


def test_each_class_is_a_suite_and_field_is_their_union() -> None:
    assert {f"field-{kind}" for kind in CLASSES} | {"field"} <= set(suites())
    assert len(get_suite("field").problems) == len(FIELD_PROBLEMS)
    for kind, recipes in FIELD.items():
        assert len(get_suite(f"field-{kind}").problems) == len(recipes)


def test_problems_of_the_field_are_named_alone() -> None:
    assert [problem.name for problem in problems_of("buchwald_a,convolution_A100")] == [
        "buchwald_a",
        "convolution_A100",
    ]
    with pytest.raises(DataError, match="buchwald_a"):
        named_problem("buchwald_d")


def test_no_name_is_of_a_problem_that_is_kept_for_checking() -> None:
    for name in FIELD_PROBLEMS:
        if name.startswith("bocode_"):
            assert zlib.crc32(name.removeprefix("bocode_").encode()) % 2 == 0
        elif name.startswith("bbob"):
            numbers = re.fullmatch(r"bbob(?:_noisy|_mixint|_largescale)?_f\d+_i(\d+)_(\d+)d", name)
            assert numbers is not None
            assert 1 <= int(numbers[1]) <= 5
            assert 2 <= int(numbers[2]) <= 100


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("bbob_f8_i3_2d", "cocoex", "coco-experiment"), ("bocode_BraninLVGP", "bocode", "bocode")],
)
def test_without_its_library_a_problem_names_the_extra(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        extra.importlib.util, "find_spec", lambda wanted: None if wanted == module else find(wanted)
    )
    from bo_suite.problems.field import bocode, coco

    bocode._loaded.cache_clear()
    coco._coco.cache_clear()
    message = rf"the suite field needs the package {package}: .*`pip install 'bo-suite\[field\]'`"
    with pytest.raises(DataError, match=message):
        named_problem(name)


def test_every_problem_has_a_best_known_value_below_that_of_a_typical_point() -> None:
    references = field_references()
    assert list(references) == list(FIELD_PROBLEMS)
    for name in FIELD["categorical"]:
        if not name.startswith("bocode"):
            assert references[name].exact
            assert references[name].best_known == named_problem(name).minimum
    assert all(references[name].exact for name in references if name.startswith("bbob"))
    with pytest.raises(DataError, match="best_known < typical"):
        Reference(1.0, True, 1.0)


def test_a_problem_of_another_suite_has_no_reference() -> None:
    assert isinstance(get_problem("branin"), Problem)
    assert "branin" not in field_references()
