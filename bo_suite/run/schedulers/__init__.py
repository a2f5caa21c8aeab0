"""Schedulers: they stop trials while they run, or pause them to continue the best ones."""

from bo_suite.run.schedulers.asha import ASHA
from bo_suite.run.schedulers.curve_promotion import CurvePromotion
from bo_suite.run.schedulers.curve_stopping import CurveStopping
from bo_suite.run.schedulers.hyperband import Hyperband
from bo_suite.run.schedulers.median import MedianRule
from bo_suite.run.schedulers.pasha import PASHA
from bo_suite.run.schedulers.promotion import PromotionASHA

__all__ = ["ASHA", "PASHA", "CurvePromotion", "CurveStopping", "Hyperband", "MedianRule", "PromotionASHA"]
