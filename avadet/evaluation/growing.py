"""An array that grows in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Growing:
    """Appends arrays to one array without holding them twice."""

    def __init__(self, dtype: Any, capacity: int = 0) -> None:
        # Pages that are never touched cost nothing, so a generous capacity is free.
        self._array: NDArray[Any] = np.empty(max(capacity, 1024), dtype=dtype)
        self._used = 0

    def append(self, values: NDArray[Any]) -> None:
        """Adds values (n,) at the end."""
        end = self._used + len(values)
        if end > len(self._array):
            self._array.resize(max(end, 2 * len(self._array)), refcheck=False)
        self._array[self._used : end] = values
        self._used = end

    def finish(self) -> NDArray[Any]:
        """The array, cut to length; nothing may be appended afterwards."""
        self._array.resize(self._used, refcheck=False)
        return self._array
