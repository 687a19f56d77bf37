"""Wheels made on the spot, in a folder that a real pip takes for its only index."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path


class Wheelhouse:
    """A folder of wheels. Nothing but this folder is asked: no index, no cache, no configuration of the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment for a child pip."""
        return {
            "PATH": os.environ["PATH"],
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder),
            "PIP_NO_CACHE_DIR": "1",
        }

    def add(self, package: str, members: Mapping[str, bytes], *, version: str = "1.0", packed: bool = False) -> Path:
        """Publish a wheel with these members, deflated if `packed`; replaces an earlier one."""
        stem = f"{package.replace('-', '_')}-{version}"
        info = f"{stem}.dist-info"
        described = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
        path = self.folder / f"{stem}-py3-none-any.whl"
        packing = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", packing) as archive:
            for name, content in {**members, **described}.items():
                archive.writestr(name, content)
        return path
