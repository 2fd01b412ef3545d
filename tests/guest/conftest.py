# SPDX-License-Identifier: BSD-3-Clause
"""What these tests share with those of tests/interop is found there."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "interop"))
