"""OpenVINO's packages, for every child that needs them: imported here and nowhere else.

The library's Python package tells its makers of its use, unless the package that does so cannot be imported; then it
does without. Nothing leaves this machine, so that import is made to fail first.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402
import openvino_genai as genai  # noqa: E402
from openvino import opset13  # noqa: E402

__all__ = ["genai", "openvino", "opset13"]
