"""Compares `crabcast generate` with transformers, from files of media to the text of the answer.

    python3 tests/parity/generate_parity.py CRABCAST BUILD_FOLDER LIBTORCH [SEED...]

Packages, folders and the exit code 77 are those of thinker_parity.py. A random tiny thinker with the
tokenizer of Qwen2.5-Omni answers questions about random pictures and sounds in files.
"""

import pathlib
import subprocess
import sys

import packages
import thinker_parity

SEEDS = range(1, 3)


def main(crabcast, build, libtorch, seeds):
    python = build / "python"
    packages.install(python, thinker_parity.PACKAGES, wanted=["transformers", "sympy", "PIL"],
                     dependencies=True)
    packages.install(python, thinker_parity.VISION, wanted=["torchvision"])
    packages.install(python, thinker_parity.VOCABULARY, wanted=["dashscope"])
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    environment = packages.environment(python, libtorch, libraries=libraries)
    scripts, base = pathlib.Path(__file__).parent, build / "parity" / "generate"
    for script, *arguments in [("make_tokenizer.py", base / "tokenizer.json"),
                               ("generate_answers.py", crabcast, base, *seeds)]:
        done = subprocess.run([sys.executable, str(scripts / script), *map(str, arguments)],
                              env=environment)
        if done.returncode != 0:
            sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), sys.argv[4:] or SEEDS)
