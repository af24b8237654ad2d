"""Check for the system libraries and tools that the Python packages need, before they are installed.

Open3D links to OpenGL and X11 even where it draws nothing, and pyliblzfse, which nerfstudio's viewer depends
on, has no wheel for Linux, so that pip compiles it. As root on Debian or Ubuntu the missing packages are
installed; elsewhere they are named. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libudev.so.1": "libudev1",
}
"""Libraries that Open3D loads, and the Debian packages that bring them."""


def loads(library: str) -> bool:
    """Tell whether the dynamic loader finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_packages() -> dict[str, str]:
    """Tell what is missing on this machine.

    Returns:
        Debian package -> what it is for.
    """
    missing = {package: library for library, package in LIBRARIES.items() if not loads(library)}
    if not any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang")):
        missing["gcc"] = "a C compiler"
        missing["libc6-dev"] = "the C headers"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        major, minor = sys.version_info[:2]
        missing[f"python{major}.{minor}-dev"] = "Python's C headers"
    return missing


def main() -> int:
    """Install what is missing where that is possible, else say what to install.

    Returns:
        Exit status: 0 if nothing is missing any more.
    """
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages()
    if not missing:
        return 0
    command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing system packages: {' '.join(missing)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for line in ("apt-get update -q", command):
            subprocess.run(line.split(), env=environment, check=False)
        missing = missing_packages()
    if missing:
        wanted = ", ".join(f"{what} ({package})" for package, what in missing.items())
        print(f"error: this machine lacks {wanted}; on Debian or Ubuntu: sudo {command}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
