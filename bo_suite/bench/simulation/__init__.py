"""Tuners on learning curves in simulated time."""

from bo_suite.bench.simulation.clock import simulate
from bo_suite.bench.simulation.drawn import DrawnTrials, RandomCurves
from bo_suite.bench.simulation.own import BoSuiteCurves, OptimizerTuner
from bo_suite.bench.simulation.result import Event, SimulatedTrial, Simulation
from bo_suite.bench.simulation.tuner import CurveMethod, CurveTask, Job, Tuner

__all__ = [
    "BoSuiteCurves",
    "CurveMethod",
    "CurveTask",
    "DrawnTrials",
    "Event",
    "Job",
    "OptimizerTuner",
    "RandomCurves",
    "SimulatedTrial",
    "Simulation",
    "Tuner",
    "simulate",
]
