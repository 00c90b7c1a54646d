"""Python packages that goldens need, in the build folder; nothing is installed system-wide."""

import os
import pathlib
import subprocess
import sys

SKIPPED = 77  # the exit code that ctest shows as a skipped test


def install(folder, packages, *, wanted, dependencies=False):
    """Puts the packages into the folder unless the modules `wanted` are there. Where pip cannot, the
    process ends with the exit code 77, and its last line says why."""
    if all((folder / module).exists() for module in wanted):
        return
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1",
         *([] if dependencies else ["--no-deps"]), "--disable-pip-version-check",
         "--root-user-action", "ignore", "--target", str(folder), *packages],
        capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        skip(f"pip cannot install {' '.join(packages)}: {reason[0]}")


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def environment(*modules, libraries=()):
    """The variables of a process that finds modules and libraries in these folders, too."""
    found = dict(os.environ)
    for name, folders in [("PYTHONPATH", modules), ("LD_LIBRARY_PATH", libraries)]:
        if folders:
            found[name] = os.pathsep.join([*map(str, folders), *filter(None, [found.get(name)])])
    return found


def stand_ins(libtorch, folder):
    """Folders of libraries with which the wheel of PyTorch that LibTorch came from loads without CUDA.

    Its Python module names NVIDIA's libraries, 4 GB that a computation on the CPU never calls. Empty
    libraries of these names satisfy the loader, when symbols are bound lazily (load_torch).
    """
    libraries = [folder, libtorch / "nvidia" / "cu13" / "lib"]
    found = subprocess.run(["ldd", str(libtorch / "torch" / "lib" / "libtorch_python.so")],
                           env=environment(libraries=libraries), capture_output=True, text=True)
    if found.returncode != 0:
        skip(f"{libtorch} holds no PyTorch: {found.stderr.strip()}")
    folder.mkdir(parents=True, exist_ok=True)
    for line in found.stdout.splitlines():
        name, _, place = line.strip().partition(" => ")
        if place == "not found":
            subprocess.run(["c++", "-shared", "-x", "c++", "/dev/null", f"-Wl,-soname,{name}", "-o",
                            str(folder / name)], check=True)
    return libraries


def load_torch():
    """Imports PyTorch as `stand_ins` needs it; before any other import of it."""
    sys.setdlopenflags(os.RTLD_LAZY)
    import torch
    return torch
