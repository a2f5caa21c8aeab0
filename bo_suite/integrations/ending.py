"""Schedulers for libraries in which no trial can be paused."""

from bo_suite.run.schedulers import PASHA, CurvePromotion, PromotionASHA
from bo_suite.study.arguments import check_scheduler


def check_ending(scheduler: object, law: str) -> None:
    """Raise a ValueError unless an object is a scheduler, and not one of ours that pauses trials.

    Args:
        scheduler: the object.
        law: what must hold, as the beginning of a sentence.
    """
    check_scheduler(scheduler)
    if isinstance(scheduler, CurvePromotion | PASHA | PromotionASHA):
        raise ValueError(f"{law}, got {type(scheduler).__name__}, which pauses them")
