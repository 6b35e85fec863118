"""Statistics of dispatchers for Prometheus, by `prometheus-client` (the extra `metrics`). Starts no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from swiftdet.dispatch.dispatcher import BatchDispatcher
from swiftdet.dispatch.statistics import DispatcherStats
from swiftdet.errors import BackendUnavailable, InvalidType

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_COUNTERS = {
    "request_submitted": ("submitted", "Requests that were submitted."),
    "request_success": ("done", "Requests whose result was handed out."),
    "request_failure": ("failed", "Requests that ended with an error of their image or of the engine."),
    "request_expired": ("expired", "Requests whose deadline passed first."),
    "request_rejected": ("rejected", "Requests that found no place in the queue."),
    "request_dropped": ("dropped", "Requests that newer ones pushed out of the queue."),
    "request_cancelled": ("cancelled", "Requests that were cancelled."),
    "image_retried": ("retried", "Images that ran again alone, because the batch that they were in failed."),
    "inference": ("inference_count", "Images that the engine ran."),
}
_DURATIONS = {
    "request_duration": ("request_us", "Seconds from submission to the result, summed over successful requests."),
    "queue_duration": ("queue_us", "Seconds from submission to a worker, summed over requests that reached one."),
    "compute_input_duration": ("compute_input_us", "Seconds of loading and pre-processing, summed."),
    "compute_infer_duration": ("compute_infer_us", "Seconds in the network, summed."),
    "compute_output_duration": ("compute_output_us", "Seconds of post-processing, summed."),
}
_GAUGES = {
    "pending_requests": ("queued", "Requests that wait now."),
    "running_requests": ("running", "Requests that are with a worker now."),
}


class DispatcherCollector:
    """Reads `stats()` of some dispatchers whenever Prometheus asks; costs nothing in between.

    Metrics are `swiftdet_*`, in Triton's words, with the label `dispatcher`. A dispatcher may be closed meanwhile: its
    last counts stay. Safe from several threads.

    Example:
        >>> from prometheus_client import REGISTRY  # doctest: +SKIP
        >>> REGISTRY.register(DispatcherCollector({"street": dispatcher}))  # doctest: +SKIP
    """

    def __init__(self, dispatchers: Mapping[str, BatchDispatcher]) -> None:
        """A collector for one registry.

        Args:
            dispatchers: by the value of their label; kept.

        Raises:
            BackendUnavailable: prometheus-client is not installed.
            InvalidType: not a mapping of names to dispatchers.
        """
        try:
            from prometheus_client import metrics_core  # noqa: PLC0415 - an extra
        except ImportError as e:
            raise BackendUnavailable(
                "metrics need prometheus-client, which is not installed: pip install 'swiftdet[metrics]'"
            ) from e
        if not isinstance(dispatchers, Mapping) or not all(
            isinstance(name, str) and isinstance(d, BatchDispatcher) for name, d in dispatchers.items()
        ):
            raise InvalidType("dispatchers: expected a mapping of names to BatchDispatcher")
        self._dispatchers = dict(dispatchers)
        self._core = metrics_core

    def describe(self) -> Iterator[Metric]:
        """The metrics without values, so that a registry can find clashes of names."""
        return self._metrics({})

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        return self._metrics({name: dispatcher.stats() for name, dispatcher in self._dispatchers.items()})

    def _metrics(self, stats: Mapping[str, DispatcherStats]) -> Iterator[Metric]:
        for metric, (field, text) in _COUNTERS.items():
            family = self._core.CounterMetricFamily(f"swiftdet_{metric}", text, labels=["dispatcher"])
            for name, values in stats.items():
                family.add_metric([name], getattr(values, field))
            yield family
        for metric, (field, text) in _DURATIONS.items():
            family = self._core.CounterMetricFamily(f"swiftdet_{metric}_seconds", text, labels=["dispatcher"])
            for name, values in stats.items():
                family.add_metric([name], getattr(values, field) * 1e-6)
            yield family
        for metric, (field, text) in _GAUGES.items():
            gauge = self._core.GaugeMetricFamily(f"swiftdet_{metric}", text, labels=["dispatcher"])
            for name, values in stats.items():
                gauge.add_metric([name], getattr(values, field))
            yield gauge
        histogram = self._core.HistogramMetricFamily(
            "swiftdet_batch_size", "Images of the batches that the engine ran.", labels=["dispatcher"]
        )
        for name, values in stats.items():
            histogram.add_metric([name], _buckets(values.batch_sizes), values.inference_count)
        yield histogram


def _buckets(batch_sizes: Mapping[int, int]) -> list[tuple[str, float]]:
    """Cumulative counts at the powers of two, as a histogram has them."""
    bounds = [1 << i for i in range(max(batch_sizes, default=1).bit_length() + 1)]
    within = [(str(float(b)), float(sum(n for size, n in batch_sizes.items() if size <= b))) for b in bounds]
    return [*within, ("+Inf", float(sum(batch_sizes.values())))]
