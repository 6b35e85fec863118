"""Dynamic batching of requests from any number of threads and event loops over one detector."""

from swiftdet.dispatch.dispatcher import BatchDispatcher
from swiftdet.dispatch.statistics import DispatcherStats

__all__ = ["BatchDispatcher", "DispatcherStats"]
