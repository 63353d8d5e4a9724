"""Augmentation: what is varied (`config`), the layers that do it (`layers`, `build`)."""

from __future__ import annotations
