"""Loads with peft what tests/parity exported for it, and compares logits.

    python3 tests/parity/peft_check.py FOLDER SEED...

FOLDER/seed_N holds folders of peft, each with logits.safetensors: what our model makes of it.
"""

import pathlib
import sys

import packages

torch = packages.load_torch()

import peft
from safetensors.torch import load_file

import adapter_files
import thinker_base
import thinker_golden

LIMIT = 2e-5  # relative L2


def check(folder, seed):
    _, config, base, batches = thinker_golden.start(seed, small=False)
    folders = sorted(file.parent for file in folder.rglob("adapter_config.json"))
    assert folders, f"{folder} holds no adapter for peft"
    worst = 0
    for adapter in folders:
        model = thinker_base.copy_of(base, config)
        loaded = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
        ours = load_file(str(adapter / "logits.safetensors"))
        for name, theirs in adapter_files.logits(loaded, batches).items():
            worst = max(worst, ((ours[name] - theirs).norm() / theirs.norm()).item())
    print(f"seed {seed}: {len(folders)} adapters loaded by peft, logits differ by {worst:.1e}")
    assert worst <= LIMIT, f"peft computes something else from {folder}"


def main(folder, seeds):
    torch.set_num_threads(1)
    for seed in seeds:
        check(folder / f"seed_{seed}", int(seed))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
