"""A training run as a folder: what was asked, what it learns from, how far it is, what it made."""

from __future__ import annotations
