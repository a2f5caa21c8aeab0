"""The suite `field`: eight classes of problems that others wrote, by name.

Results are stored by name, and what was developed was compared on these: problems are added under new names,
and none is changed or removed.
"""

from collections.abc import Callable, Mapping
from functools import partial

from bo_suite.problems.base import Problem
from bo_suite.problems.field.bocode import bocode_problem
from bo_suite.problems.field.coco import bbob, large, mixint, noisy
from bo_suite.problems.field.tables import table_problem

Recipe = Callable[[], Problem]


def _coco(
    prefix: str, make: Callable[[int, int, int], Problem], *keys: tuple[int, int, int]
) -> dict[str, Recipe]:
    """Functions of COCO by name, from their numbers: function, instance, dimension."""
    return {f"{prefix}_f{f}_i{i}_{d}d": partial(make, f, i, d) for f, i, d in keys}


def _bocode(*names: str) -> dict[str, Recipe]:
    return {f"bocode_{name}": partial(bocode_problem, name) for name in names}


def _tables(*names: str) -> dict[str, Recipe]:
    return {name: partial(table_problem, name) for name in names}


FIELD: Mapping[str, Mapping[str, Recipe]] = {
    "smooth": {
        **_coco(
            "bbob", bbob, (1, 5, 20), (5, 1, 5), (6, 2, 5), (8, 3, 2), (8, 1, 10), (9, 4, 5), (14, 3, 10)
        ),
        **_bocode("Wing", "ReactivityModel", "EulerBernoulliBeamBending", "PressureVesselContinuous"),
        **_bocode("WeldedBeamSO", "CEC2020_p13", "JLH1"),
    },
    "multimodal": {
        **_coco(
            "bbob", bbob, (3, 1, 5), (4, 2, 5), (15, 3, 10), (16, 1, 5), (17, 4, 10), (18, 2, 5), (19, 5, 5)
        ),
        **_coco("bbob", bbob, (20, 1, 10), (21, 3, 5), (22, 2, 10), (23, 1, 3), (24, 4, 5), (21, 1, 2)),
        **_bocode("ConstrainedAckley6D", "SatelliteDesign", "CEC2020_p27"),
    },
    "ill-conditioned": {
        **_coco(
            "bbob", bbob, (2, 1, 10), (7, 3, 5), (10, 2, 5), (10, 5, 10), (11, 1, 10), (11, 2, 3), (12, 4, 5)
        ),
        **_coco("bbob", bbob, (13, 3, 10), (14, 2, 5), (6, 4, 10), (12, 1, 20), (9, 5, 20)),
    },
    "noisy": {
        **_coco("bbob_noisy", noisy, (103, 1, 5), (104, 2, 5), (107, 3, 5), (108, 1, 3), (109, 4, 10)),
        **_coco("bbob_noisy", noisy, (110, 1, 5), (112, 2, 5), (113, 5, 5), (115, 1, 5), (119, 3, 10)),
        **_coco("bbob_noisy", noisy, (121, 2, 5), (122, 4, 5), (124, 1, 5), (128, 2, 5), (130, 3, 5)),
    },
    "mixed": {
        **_coco(
            "bbob_mixint", mixint, (4, 2, 10), (8, 1, 5), (10, 3, 10), (13, 5, 20), (15, 4, 5), (17, 1, 10)
        ),
        **_coco("bbob_mixint", mixint, (21, 2, 5), (24, 3, 10)),
        **_bocode("MixedAckley", "BraninLVGP", "GoldsteinLVGP", "ShekelMixed", "PressureVessel"),
        **_bocode("ReinforcedConcreteBeam", "SteppedCantileverBeam", "HelicalSpring", "GearTrain"),
    },
    "categorical": {
        **_tables("buchwald_a", "buchwald_b", "buchwald_c"),
        **_tables("convolution_A100", "convolution_A4000", "convolution_W6600"),
        **_bocode("NASBench201", "StyblinskiTangCat", "SchwefelCat", "CrossedBarrel"),
        **_bocode("BraninCategorical", "CoCaBOFunc3C", "WeldedBeamCategorical"),
    },
    "high-dimensional": {
        **_coco("bbob", bbob, (15, 2, 20), (21, 4, 20), (10, 1, 20), (8, 3, 40), (3, 1, 40), (17, 5, 40)),
        **_coco("bbob_largescale", large, (2, 1, 40), (3, 2, 80), (20, 1, 80)),
        **_bocode("CEC2020_p26", "CEC2020_p45", "CEC2020_p50", "CEC2020_p51", "CEC2020_p6", "CEC2020_p7"),
    },
    "tuning": {
        **_bocode("Bayesmark_DT_digits", "Bayesmark_DT_wine", "Bayesmark_kNN_wine"),
        **_bocode("HPOBSurr_5906_9970", "HPOBSurr_5971_6566", "HPOBSurr_6767_9967", "HPOBSurr_5965_9946"),
        **_bocode("HPOB_4796_9906", "HPOB_5527_9914", "HPOB_5891_3899"),
        **_bocode("LCBenchAustralian", "LCBenchMfeatFactors", "LCBenchSegment", "LCBenchChristine"),
    },
}
"""Functions that make the problems, by class and name."""

FIELD_PROBLEMS: Mapping[str, Recipe] = {
    name: make for recipes in FIELD.values() for name, make in recipes.items()
}
"""Functions that make the problems of all classes, by name."""
