"""What /metrics shows: requests, queues, batches, steps and memory, as Prometheus reads them."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """The figures of one server. Labels are routes, methods, statuses and models: of each there are few."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("quintet_requests", "Requests answered.", ("route", "method", "status"), **here)
        self.seconds = Histogram(
            "quintet_request_seconds", "From the request to the end of its answer.", ("route",), buckets=SECONDS, **here
        )
        self.open = Gauge("quintet_requests_open", "Requests that are not answered yet.", **here)
        self.waiting = Gauge("quintet_queue", "Requests that wait for a model.", ("model",), **here)
        self.working = Gauge("quintet_working", "Requests that a model is at work on.", ("model",), **here)
        self.batch = Histogram(
            "quintet_batch_requests", "Requests in one forward pass.", ("model",), buckets=SIZES, **here
        )
        self.step = Histogram("quintet_step_seconds", "One step of a model.", ("model",), buckets=SECONDS, **here)
        self.loaded = Gauge("quintet_model_bytes", "Weights in memory; 0: not loaded.", ("model",), **here)
        memory = Gauge("quintet_resident_bytes", "Memory of this process.", **here)
        memory.set_function(resident)

    def text(self) -> bytes:
        """All of them in the text format of Prometheus."""
        return generate_latest(self.registry)


def resident() -> float:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0.0
