"""Problems that others wrote: functions of COCO, problems of bocode, tables of measurements."""

from bo_suite.problems.field.references import Reference, field_references
from bo_suite.problems.field.suites import FIELD, FIELD_PROBLEMS

__all__ = ["FIELD", "FIELD_PROBLEMS", "Reference", "field_references"]
