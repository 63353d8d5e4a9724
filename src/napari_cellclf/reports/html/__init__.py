"""One page that holds everything that is known of how good a model is."""

from __future__ import annotations

from napari_cellclf.reports.html.report import write_report

__all__ = ["write_report"]
