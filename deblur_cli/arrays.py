"""Names of arrays, so that a signature says what is in them; shapes, ranges and units stand in the docstrings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
"""A picture (H, W, 3), RGB, in [0, 1], display-encoded unless the docstring says otherwise."""
Grey = npt.NDArray[np.float32]
"""A picture (H, W) in [0, 1]."""
Bytes = npt.NDArray[np.uint8]
"""A picture (H, W, 3) at 8 bit."""
Mask = npt.NDArray[np.bool_]
"""Which pixels, or which of many, count."""
Floats = npt.NDArray[np.float64]
"""Numbers that are no picture."""
