"""Augmentation: its strengths (`config`), and the layers that apply it (`layers`)."""

from __future__ import annotations
