"""The reference side of bench/index.cpp: how two data loaders start on the same rows, and resume.

    index_reference.py prepare FOLDER STEP     installs the packages, writes the MDS shards
    index_reference.py torchdata FOLDER STEP   torchdata's StatefulDataLoader over the JSON file
    index_reference.py streaming FOLDER STEP   MosaicML's StreamingDataset over the shards

Prints {"first_ms", "resume_ms", "memory_mib"}: from nothing to the first sample of a shuffled epoch,
from a saved state to the first sample of the batch after STEP, memory that the process then holds
beside what its imports took. Batches have 64 samples; no worker processes.
"""

import importlib
import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import packages
import thinker_parity

BATCH = 64
# Without their dependencies, which would fetch PyTorch again; the rest comes with transformers.
PACKAGES = ["torchdata==0.11.0", "mosaicml-streaming==0.13.0", "boto3", "botocore", "jmespath",
            "s3transfer", "python-dateutil", "six", "Brotli", "catalogue", "python-snappy", "cramjam",
            "xxhash", "zstd"]


def prepare_and_run_again():
    build = ROOT / "build"
    libtorch = pathlib.Path(os.environ["CRABCAST_LIBTORCH"])
    thinker_parity.install(build)
    packages.install(build / "python", PACKAGES, wanted=["torchdata", "streaming", "zstd"])
    libraries = packages.stand_ins(libtorch, build / "parity" / "stand_ins")
    environment = packages.environment(build / "python", libtorch, libraries=libraries)
    os.execve(sys.executable, [sys.executable, *sys.argv, "--prepared"], environment)


def resident_mib():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


def shards(folder):
    return folder.with_name(folder.name + "-mds")


def prepare(folder, step):
    from streaming import MDSWriter

    target = shards(folder)
    if not (target / "index.json").exists():
        rows = json.loads((folder / "ks" / "train.json").read_text())
        columns = {name: "str" for name in rows[0]}
        with MDSWriter(out=str(target), columns=columns, exist_ok=True) as writer:
            for row in rows:
                writer.write(row)
    return {}


def measure(start, save):
    """start() gives a loader; save(loader) gives what goes on in the middle, and is not counted."""
    before = resident_mib()
    began = time.perf_counter()
    loader = start()
    next(iter(loader))
    first = time.perf_counter() - began
    resume = save(loader)
    began = time.perf_counter()
    next(iter(resume()))
    second = time.perf_counter() - began
    return {"first_ms": 1e3 * first, "resume_ms": 1e3 * second,
            "memory_mib": resident_mib() - before}


def torchdata(folder, step):
    from torch.utils.data import Dataset
    from torchdata.stateful_dataloader import StatefulDataLoader

    class Rows(Dataset):
        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            return self.rows[index]["video_path"]

    class Ids(Rows):
        """As long, but cheap: for the walk to the state that is saved."""

        def __getitem__(self, index):
            return index

    def loader_of(dataset):
        return StatefulDataLoader(dataset, batch_size=BATCH, shuffle=True)

    def start():
        return loader_of(Rows(json.loads((folder / "ks" / "train.json").read_text())))

    def save(loader):
        walked = loader_of(Ids(loader.dataset.rows))
        batches = iter(walked)
        for _ in range(step):
            next(batches)
        state = walked.state_dict()

        def resume():
            resumed = loader_of(loader.dataset)
            resumed.load_state_dict(state)
            return resumed

        return resume

    return measure(start, save)


def streaming(folder, step):
    from streaming import StreamingDataset

    def start():
        return StreamingDataset(local=str(shards(folder)), shuffle=True, batch_size=BATCH)

    def save(dataset):
        state = dataset.state_dict(num_samples=step * BATCH, from_beginning=True)

        def resume():
            dataset.load_state_dict(state)
            return dataset

        return resume

    return measure(start, save)


if __name__ == "__main__":
    if sys.argv[-1] != "--prepared":
        prepare_and_run_again()
    name, folder, step = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    packages.load_torch()
    for module in ["torchdata.stateful_dataloader", "streaming"]:
        importlib.import_module(module)  # not counted
    print(json.dumps({"prepare": prepare, "torchdata": torchdata,
                      "streaming": streaming}[name](folder, step)))
