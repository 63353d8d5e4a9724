"""Predictions over HTTP: a model behind an API and a page. Needs the extra ``server``."""
