"""The reference side of bench/index.cpp: how two data loaders start on the same rows, and resume.

    index_reference.py prepare FOLDER STEP     installs the packages, writes the MDS shards
    index_reference.py torchdata FOLDER STEP   torchdata's StatefulDataLoader over the JSON file
    index_reference.py streaming FOLDER STEP   MosaicML's StreamingDataset over the shards

Prints {"first_ms", "resume_ms", "memory_mib"}: from nothing to the first sample of a shuffled epoch,
from a saved state to the first sample of the batch after STEP, memory that the process then holds
beside what its imports took. Batches have 64 samples; no worker processes.
"""

import json
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import packages

BATCH = 64
PACKAGES = ["torchdata==0.11.0", "mosaicml-streaming==0.13.0", "numpy", "boto3", "botocore",
            "jmespath", "s3transfer", "python-dateutil", "six", "urllib3", "Brotli", "catalogue",
            "filelock", "fsspec", "Jinja2", "MarkupSafe", "mpmath", "networkx", "paramiko",
            "python-snappy", "cramjam", "pyyaml", "requests", "certifi", "charset-normalizer",
            "idna", "sympy", "torchvision", "tqdm", "typing-extensions", "xxhash", "zstd"]


def prepare_and_run_again():
    build = ROOT / "build"
    libtorch = pathlib.Path(os.environ["CRABCAST_LIBTORCH"])
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


def measure(start, resume):
    """start() gives a loader; resume(loader's samples so far) continues a new one."""
    before = resident_mib()
    began = time.perf_counter()
    loader = start()
    next(iter(loader))
    first = time.perf_counter() - began
    began = time.perf_counter()
    next(iter(resume(loader)))
    second = time.perf_counter() - began
    return {"first_ms": 1e3 * first, "resume_ms": 1e3 * second,
            "memory_mib": resident_mib() - before}


def torchdata(folder, step):
    packages.load_torch()
    from torch.utils.data import Dataset
    from torchdata.stateful_dataloader import StatefulDataLoader

    class Rows(Dataset):
        def __init__(self, file):
            self.rows = json.loads(file.read_text())

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            return self.rows[index]["video_path"]

    class Ids(Dataset):
        """As long, for the walk to the state that is saved."""

        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            return index

    def loader_of(dataset):
        return StatefulDataLoader(dataset, batch_size=BATCH, shuffle=True)

    def resume(loader):
        walked = loader_of(Ids(len(loader.dataset)))
        batches = iter(walked)
        for _ in range(step):
            next(batches)
        state = walked.state_dict()
        resumed = loader_of(loader.dataset)
        began[0] = time.perf_counter()
        resumed.load_state_dict(state)
        return resumed

    began = [0.0]
    result = measure(lambda: loader_of(Rows(folder / "ks" / "train.json")), resume)
    # The walk itself is not counted.
    result["resume_ms"] = 1e3 * (time.perf_counter() - began[0])
    return result


def streaming(folder, step):
    packages.load_torch()
    from streaming import StreamingDataset

    def start():
        return StreamingDataset(local=str(shards(folder)), shuffle=True, batch_size=BATCH)

    def resume(dataset):
        state = dataset.state_dict(num_samples=step * BATCH, from_beginning=True)
        dataset.load_state_dict(state)
        return dataset

    return measure(start, resume)


if __name__ == "__main__":
    if sys.argv[-1] != "--prepared":
        prepare_and_run_again()
    name, folder, step = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    packages.load_torch()
    print(json.dumps({"prepare": prepare, "torchdata": torchdata,
                      "streaming": streaming}[name](folder, step)))
