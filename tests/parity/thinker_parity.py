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
# That of PyTorch 2.11. Without its dependencies: PyTorch itself would be fetched again.
VISION = ["torchvision==0.26.0"]
VOCABULARY = ["dashscope==2.0.2"]  # Qwen's; only a file of it is read
SEEDS = range(1, 13)


def main(test_parity, build, libtorch, seeds):
    packages.install(build / "python", PACKAGES, wanted=["transformers", "sympy", "networkx", "PIL"],
                     dependencies=True)
    packages.install(build / "python", VISION, wanted=["torchvision"])
    golden = build / "parity" / "thinker"
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    environment = packages.environment(build / "python", libtorch, libraries=libraries)
    shutil.rmtree(golden, ignore_errors=True)
    scripts, tokenizer = pathlib.Path(__file__).parent, build / "parity" / "qwen" / "tokenizer.json"
    packages.install(build / "python", VOCABULARY, wanted=["dashscope"])
    for script, *arguments in [
            ("make_tokenizer.py", tokenizer),
            ("thinker_golden.py", "--tokenizer", tokenizer, golden, *seeds)]:
        subprocess.run([sys.executable, str(scripts / script), *map(str, arguments)],
                       env=environment, check=True)
    environment = packages.environment()
    environment["CRABCAST_PARITY_GOLDEN"] = str(golden)
    environment["CRABCAST_PARITY_TOKENIZER"] = str(tokenizer)
    sys.exit(subprocess.run([test_parity], env=environment).returncode)


if __name__ == "__main__":
    main(sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), sys.argv[4:] or SEEDS)
