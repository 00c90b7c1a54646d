"""The reference side of bench/step.cpp: the same training step written with transformers and PyTorch.

    step_reference.py FOLDER DEVICE THREADS STEPS [--recompute]

FOLDER holds config.json (the thinker's, random weights) and step.json (shapes of the batch, adapter).
The thinker is transformers' own, with scaled dot-product attention; I-LoRA is added head by head, as
it is published (on top of tests/parity/thinker_adapter.py); torch.optim.AdamW updates it. Prints
{"seconds": [one a step, the first left out], "peak_mib": largest growth of memory during the steps}.
On a GPU weights and adapters are bfloat16 and memory is that of PyTorch's allocator.
"""

import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import packages
import thinker_parity


def prepare_and_run_again():
    """Installs what the reference needs; a GPU's machine has its own PyTorch and transformers."""
    build = ROOT / "build"
    libtorch = pathlib.Path(os.environ["CRABCAST_LIBTORCH"])
    thinker_parity.install(build)
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    environment = packages.environment(build / "python", libtorch, libraries=libraries)
    os.execve(sys.executable, [sys.executable, *sys.argv, "--prepared"], environment)


def main(folder, device, threads, steps, recompute):
    torch = packages.load_torch()
    import thinker_base
    import thinker_adapter
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    class AsPublished(thinker_adapter.Adapted):
        """A's product once, then head after head."""

        parts = thinker_adapter.ILora.parts

        def forward(self, x):
            A, *B, route = self.own
            p = torch.softmax((x @ route.T).float(), dim=-1).to(x.dtype)
            z = torch.nn.functional.dropout(x, step["dropout"]) @ A.T
            y = self.linear(x)
            for i, head in enumerate(B):
                y = y + self.scale * p[..., i : i + 1] * (z @ head.T)
            return y

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    step = json.loads((folder / "step.json").read_text())
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    config = Qwen2_5OmniThinkerConfig.from_dict(json.loads((folder / "config.json").read_text()))
    with torch.device(device):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=dtype)
        model.requires_grad_(False)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.fill_(1) if weight.dim() == 1 else weight.normal_(0, 0.02)
        values = {}
        for name, linear in thinker_adapter.hit_modules(model, "all"):
            out, inputs = linear.weight.shape
            shapes = [(step["rank"], inputs), *[(out, step["rank"])] * step["heads"],
                      (step["heads"], inputs)]
            for key, shape in zip(thinker_adapter.published_names(name, "ilora", step["heads"]), shapes):
                values[key] = torch.randn(shape, dtype=dtype) * 0.02
        thinker_adapter.KINDS["ilora"] = AsPublished
        adapters = thinker_adapter.attach(model, "all", step, values)
        del values
    model.train()
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    optimizer = torch.optim.AdamW(adapters.values(), lr=1e-4, weight_decay=0)

    def on_device(name, *shape):
        return torch.randn(*shape, dtype=dtype, device=device)

    rows = step["samples"]
    ids = torch.tensor(step["ids"], device=device).expand(rows, -1)
    labels = torch.tensor(step["labels"], device=device).expand(rows, -1)
    grid = torch.tensor([step["grid"]] * rows, device=device)
    frames = step["mel_frames"]
    arguments = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels,
        "pixel_values_videos": on_device("pixels", rows * step["patches"], step["patch_elements"]),
        "video_grid_thw": grid,
        "video_second_per_grid": torch.full((rows,), 2.0, device=device),
        "input_features": on_device("mel", rows, step["mel_bins"], frames),
        "feature_attention_mask": torch.ones(rows, frames, dtype=torch.long, device=device),
    }

    def synchronize():
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def one_step():
        optimizer.zero_grad(set_to_none=True)
        model(**arguments, use_cache=False).loss.backward()
        optimizer.step()

    before = memory(torch, device)
    seconds = []
    for _ in range(steps + 1):
        synchronize()
        start = time.perf_counter()
        one_step()
        synchronize()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds[1:], "peak_mib": peak(torch, device) - before}))


def status(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def memory(torch, device):
    """MiB in use now; the peak starts again from here."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak(torch, device):
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return status("VmHWM")


if __name__ == "__main__":
    if "--prepared" not in sys.argv and not sys.argv[2].startswith("cuda"):
        prepare_and_run_again()
    main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]),
         "--recompute" in sys.argv)
