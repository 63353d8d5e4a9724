"""Labelled images on disk: find them, learn what their names say, write down how they are split."""
