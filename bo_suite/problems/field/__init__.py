"""Problems that others wrote: functions of COCO, problems of bocode, tables of measurements."""

from bo_suite.problems.field.suites import FIELD, FIELD_PROBLEMS

__all__ = ["FIELD", "FIELD_PROBLEMS"]
