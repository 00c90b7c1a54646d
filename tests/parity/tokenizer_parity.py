"""Compares the tokenizer with the Python package `tokenizers` on Qwen2.5-Omni's vocabulary.

    python3 tests/parity/tokenizer_parity.py TEST_MODEL BUILD_FOLDER

Packages go into BUILD_FOLDER/python, goldens into BUILD_FOLDER/parity. Exit code 77: skipped,
because the packages cannot be installed here; the last line says why.
"""

import pathlib
import subprocess
import sys

import packages

# The reference is this version; a later one may bring the tables of a later Unicode.
PACKAGES = ["tokenizers==0.23.3", "dashscope==2.0.2"]


def main(test_model, build):
    packages.install(build / "python", PACKAGES, wanted=["tokenizers", "dashscope"])
    golden = build / "parity" / "tokenizer"
    script = pathlib.Path(__file__).with_name("tokenizer_golden.py")
    environment = packages.environment(build / "python")
    subprocess.run([sys.executable, str(script), "full", str(golden)], env=environment, check=True)
    environment["CRABCAST_TOKENIZER_GOLDEN"] = str(golden)
    tests = subprocess.run([test_model, "--gtest_filter=BpeGolden.*"], env=environment)
    sys.exit(tests.returncode)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
