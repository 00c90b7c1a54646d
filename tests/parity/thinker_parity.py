"""Compares the thinker with the one of the Python package `transformers`, with random tiny models.

    python3 tests/parity/thinker_parity.py TEST_PARITY BUILD_FOLDER LIBTORCH [SEED...]

LIBTORCH is the unpacked wheel that ./dev setup made; its Python half runs the reference. Packages go
into BUILD_FOLDER/python, goldens into BUILD_FOLDER/parity. Exit code 77: skipped, because the packages
cannot be installed here; the last line says why.
"""

import pathlib
import shutil
import subprocess
import sys

import packages

# The reference is this version; the others are what it and PyTorch ask for. That of `tokenizers` is
# the one that tokenizer_parity.py compares with, in the same folder.
PACKAGES = ["transformers==5.24.0", "tokenizers==0.23.3", "sympy", "networkx", "jinja2",
            "typing_extensions", "filelock", "fsspec", "pillow"]
# torchvision is that of PyTorch 2.11. Without their dependencies: PyTorch itself would be fetched again.
VISION = ["torchvision==0.26.0"]
PEFT = ["peft==0.21.2", "accelerate==1.15.0", "psutil==7.2.2"]
SEEDS = range(1, 13)


def main(test_parity, build, libtorch, seeds):
    packages.install(build / "python", PACKAGES, wanted=["transformers", "sympy", "networkx", "PIL"],
                     dependencies=True)
    packages.install(build / "python", VISION, wanted=["torchvision"])
    packages.install(build / "python", PEFT, wanted=["peft", "accelerate", "psutil"])
    golden = build / "parity" / "thinker"
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    environment = packages.environment(build / "python", libtorch, libraries=libraries)
    shutil.rmtree(golden, ignore_errors=True)
    script = pathlib.Path(__file__).with_name("thinker_golden.py")
    subprocess.run([sys.executable, str(script), str(golden), *map(str, seeds)], env=environment,
                   check=True)
    exported = build / "parity" / "exported"
    shutil.rmtree(exported, ignore_errors=True)
    ours = packages.environment()
    ours["CRABCAST_PARITY_GOLDEN"], ours["CRABCAST_PARITY_EXPORT"] = str(golden), str(exported)
    subprocess.run([test_parity], env=ours, check=True)
    check = pathlib.Path(__file__).with_name("peft_check.py")
    subprocess.run([sys.executable, str(check), str(exported), *map(str, seeds)], env=environment,
                   check=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), sys.argv[4:] or SEEDS)
