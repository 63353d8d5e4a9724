"""Training: what is done (`config`, `presets`), and how (`loop` and what it is made of)."""

from __future__ import annotations
