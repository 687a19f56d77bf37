"""Nothing of OpenVINO is imported that tells its makers of its use, by whichever child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import antiphon.engine.children

_CHILDREN = sorted(path.stem for path in Path(antiphon.engine.children.__path__[0]).glob("openvino*.py"))
_LOOK = """
import importlib, sys
importlib.import_module("antiphon.engine.children." + sys.argv[1])
print([name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module is not None])
"""


@pytest.mark.parametrize("child", _CHILDREN)
def test_no_child_can_report_home(child: str) -> None:
    pytest.importorskip("openvino_telemetry", reason="the extra `openvino` is not installed")
    done = subprocess.run([sys.executable, "-c", _LOOK, child], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_only_one_file_imports_the_library() -> None:
    package = Path(antiphon.engine.children.__path__[0])
    importing = {
        path.stem
        for path in package.glob("*.py")
        if any(line.startswith(("import openvino", "from openvino")) for line in path.read_text().splitlines())
    }
    assert importing == {"openvino_library"}
