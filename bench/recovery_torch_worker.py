"""One worker of the peers of bench/recovery.cpp: about a million parameters, Gloo, steps of a fixed length.

    recovery_torch_worker.py torchrun|torchft FOLDER STEP_SECONDS [MANAGER_TIMEOUT_SECONDS]

After each step that counts it appends {"at": seconds since 1970, "pid", "step", "world"} to FOLDER/steps.
"""

import datetime
import json
import os
import pathlib
import sys
import time

import torch
import torch.distributed as dist

SAVE_EVERY = 10


class Training:
    def __init__(self, folder, step_seconds):
        torch.set_num_threads(1)
        torch.manual_seed(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(),
                                         torch.nn.Linear(512, 1024), torch.nn.ReLU(),
                                         torch.nn.Linear(1024, 256))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.folder, self.step_seconds = folder, step_seconds

    def gradient(self, step):
        """Takes a step's time, however fast the machine is."""
        began = time.monotonic()
        self.optimizer.zero_grad()
        batch = torch.randn(8, 512, generator=torch.Generator().manual_seed(step))
        self.model(batch).square().mean().backward()
        gradient = torch.cat([p.grad.flatten() for p in self.model.parameters()])
        time.sleep(max(0.0, began + self.step_seconds - time.monotonic()))
        return gradient

    def update(self, gradient):
        begin = 0
        for parameter in self.model.parameters():
            parameter.grad.copy_(gradient[begin:begin + parameter.numel()].view_as(parameter))
            begin += parameter.numel()
        self.optimizer.step()

    def state(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def note(self, step, world):
        line = json.dumps({"at": time.time(), "pid": os.getpid(), "step": step, "world": world})
        with open(self.folder / "steps", "a", encoding="utf-8") as steps:
            steps.write(line + "\n")


def under_torchrun(training):
    dist.init_process_group("gloo")
    saved = training.folder / "checkpoint.pt"
    step = 0
    if saved.exists():
        state = torch.load(saved)
        training.load(state)
        step = state["step"]
    while True:
        gradient = training.gradient(step)
        dist.all_reduce(gradient)
        training.update(gradient / dist.get_world_size())
        step += 1
        training.note(step, dist.get_world_size())
        if dist.get_rank() == 0 and step % SAVE_EVERY == 0:
            torch.save({**training.state(), "step": step}, saved.with_suffix(".new"))
            saved.with_suffix(".new").rename(saved)


def under_torchft(training, timeout):
    from torchft import Manager, ProcessGroupGloo

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    limit = {} if timeout is None else {
        name: datetime.timedelta(seconds=timeout)
        for name in ("timeout", "quorum_timeout", "connect_timeout")}
    group = ProcessGroupGloo(**({} if timeout is None else {"timeout": limit["timeout"]}))
    manager = Manager(pg=group, load_state_dict=training.load, state_dict=training.state,
                      min_replica_size=1, rank=0, world_size=1, store_addr="127.0.0.1",
                      store_port=store.port, replica_id=os.environ["REPLICA"], **limit)
    while True:
        manager.start_quorum()
        gradient = training.gradient(manager.current_step())
        manager.allreduce(gradient).wait()
        if manager.should_commit():
            training.update(gradient)
            training.note(manager.current_step(), manager.num_participants())


if __name__ == "__main__":
    run = Training(pathlib.Path(sys.argv[2]), float(sys.argv[3]))
    if sys.argv[1] == "torchrun":
        under_torchrun(run)
    else:
        under_torchft(run, float(sys.argv[4]) if len(sys.argv) > 4 else None)
