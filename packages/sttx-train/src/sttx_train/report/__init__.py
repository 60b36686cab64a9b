"""What was new in sessions: priced traces in, one page for a browser out."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.report.as_json import summary
    from sttx_train.report.page import render_page
    from sttx_train.report.report import Report, make_report

__all__ = ["Report", "make_report", "render_page", "summary"]

__getattr__ = lazy_names(
    __name__,
    {
        "page": ["render_page"],
        "report": ["Report", "make_report"],
        "as_json": ["summary"],
    },
)
