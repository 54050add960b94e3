"""What holds for all tests."""

from __future__ import annotations

import os

# Before torch is imported. The tests' tensors are small: threads would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
