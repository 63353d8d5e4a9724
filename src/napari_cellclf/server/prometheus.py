"""Metrics for Prometheus: requests, their duration, and the model that is served."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server; several servers in one process do not share them."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "cellclf_requests", "Requests by path and status.", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "cellclf_request_seconds", "Seconds from header to answer.", ["path"],
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self._batches = Histogram(
            "cellclf_batch_images", "Images computed together.",
            registry=registry, buckets=_BATCHES,
        )  # fmt: skip
        self._waiting = Gauge(
            "cellclf_waiting_images", "Images that wait to be computed.", registry=registry
        )
        self._running = Gauge(
            "cellclf_running_requests", "Requests being answered.", registry=registry
        )
        self._reloads = Counter(
            "cellclf_model_reloads", "New models, loaded or refused.", ["result"], registry=registry
        )
        self._model = Info("cellclf_model", "The model that is served.", registry=registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int, waiting: int) -> None:
        """Count images computed together."""
        self._batches.observe(images)
        self._waiting.set(waiting)

    def running(self, requests: int) -> None:
        """Set the number of requests being answered."""
        self._running.set(requests)

    def reload(self, result: str) -> None:
        """Count a reload."""
        self._reloads.labels(result).inc()

    def model(self, name: str, sha256: str) -> None:
        """Set the model that is served."""
        self._model.info({"name": name, "sha256": sha256})

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
