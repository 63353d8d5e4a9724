"""Training: its settings (`config`, `presets`), and how it is done (`stages`, `loop`)."""

from __future__ import annotations
