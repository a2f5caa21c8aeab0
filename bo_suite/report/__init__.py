"""The page of a run: what it found, what its model believes, and how each point was chosen."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bo_suite.report.page import report_run

__all__ = ["report_run"]


def __getattr__(name: str) -> Any:
    if name == "report_run":
        from bo_suite.report.page import report_run

        return report_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
