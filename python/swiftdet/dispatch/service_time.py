"""How long a batch will take: a running estimate."""

from __future__ import annotations

_MEMORY = 0.9
"""Weight that what is known keeps at each new observation: the last ten batches or so decide."""
_CAUTION = 2.0
"""Mean absolute errors that are added, so that most batches take less than estimated."""


class ServiceTime:
    """Seconds of a batch of n as a line a + b*n, fitted to recent batches with exponentially fading weights.

    The slope is what one more image costs; it is never negative, and it is known as soon as two sizes were seen. Until
    then time is taken as proportional to the size for larger batches and as constant for smaller ones: the cautious
    side. The caution for scatter is that of TCP's retransmission timer (RFC 6298). Not safe from several threads.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._size = 0.0  # weighted means from here on
        self._seconds = 0.0
        self._size_size = 0.0
        self._size_seconds = 0.0
        self._error = 0.0

    def observe(self, size: int, seconds: float) -> None:
        """Takes in that a batch of `size` images took `seconds`."""
        if self._weight:
            self._error += (abs(seconds - self._line(size)) - self._error) * (1.0 - _MEMORY)
        self._weight = 1.0 + _MEMORY * self._weight
        share = 1.0 / self._weight
        self._size += (size - self._size) * share
        self._seconds += (seconds - self._seconds) * share
        self._size_size += (size * size - self._size_size) * share
        self._size_seconds += (size * seconds - self._size_seconds) * share

    def estimate(self, size: int) -> float:
        """Seconds that a batch of `size` images will hardly exceed; 0 as long as nothing was observed."""
        return self._line(size) + _CAUTION * self._error if self._weight else 0.0

    def _line(self, size: int) -> float:
        scatter = self._size_size - self._size * self._size
        if scatter < 1e-6:  # one size only
            return self._seconds * max(1.0, size / self._size)
        slope = max(0.0, (self._size_seconds - self._size * self._seconds) / scatter)
        return max(0.0, self._seconds + slope * (size - self._size))
