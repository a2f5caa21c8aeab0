"""Problems whose evaluations report after every step: learning curves with their times."""

from bo_suite.problems.curves.base import Curve, LearningCurves
from bo_suite.problems.curves.lcbench import LCBench, lcbench_tasks
from bo_suite.problems.curves.synthetic import SlowStarters

__all__ = ["Curve", "LCBench", "LearningCurves", "SlowStarters", "lcbench_tasks"]
