"""A search for good settings: many short runs in one folder, judged on validation images alone."""

from __future__ import annotations
