"""The reference side of bench/recovery.cpp: torchrun's elastic agent and torchft lose one of two workers.

    recovery_torch.py FOLDER STEP_SECONDS KILLS

Each peer runs two workers (recovery_torch_worker.py). One is killed with SIGKILL, KILLS times, each time
when both had trained together for a while.

- torchrun: --max-restarts 3, monitored as by default, torch.save every 10 steps. Its agent stops the other
  worker as well and starts both again. A new run for each kill, since some do not come back.
- torchft: a lighthouse and a manager in each worker; the survivor goes on, and the dead worker is started
  again at once by this script. With the defaults, and with the shortest sensible settings: heartbeats
  count 1 s, timeouts of the manager 5 s.

Prints one line of JSON for each peer, {"peer", "next": seconds from the kill to the next step, each kill's,
"full": to the first step of two workers again, "redone": steps that were done before, "problems": what
became of the kills that are not among these}.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

import packages

PYTORCH_NEEDS = ["sympy", "networkx", "jinja2", "typing_extensions", "filelock", "fsspec", "numpy"]
# Those that torchft 0.2.0 asks for beside PyTorch.
TELEMETRY = ["opentelemetry-api>=1.39.0", "opentelemetry-sdk>=1.39.0",
             "opentelemetry-exporter-otlp-proto-http>=1.39.0"]
TORCHFT = ["torchft==0.2.0"]
LIGHTHOUSE = "from torchft._torchft import lighthouse_main; lighthouse_main()"
WORKER = str(pathlib.Path(__file__).with_name("recovery_torch_worker.py"))
START_PATIENCE = 120  # seconds for both workers to train together
PATIENCE = 30  # seconds after a kill until the peer is given up


def prepare_and_run_again():
    folder = pathlib.Path(sys.argv[1])
    libtorch = pathlib.Path(os.environ["CRABCAST_LIBTORCH"])
    packages.install(folder / "python", PYTORCH_NEEDS + TELEMETRY,
                     wanted=["sympy", "networkx", "jinja2", "numpy", "opentelemetry"], dependencies=True)
    packages.install(folder / "python", TORCHFT, wanted=["torchft"])
    libraries = packages.stand_ins(libtorch, folder / "stand_ins")
    # As packages.load_torch does it, but for every process of the peers.
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(
        "import os, sys\nsys.setdlopenflags(os.RTLD_LAZY)\n")
    environment = packages.environment(folder / "site", folder / "python", libtorch, libraries=libraries)
    os.execve(sys.executable, [sys.executable, *sys.argv, "--prepared"], environment)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class DidNotComeBack(Exception):
    pass


class Steps:
    """What the workers have noted so far."""

    def __init__(self, folder):
        self.file = folder / "steps"

    def all(self):
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines(keepends=True)
                if line.endswith("\n")]

    def wait(self, condition, what, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            found = condition(self.all())
            if found is not None:
                return found
            time.sleep(0.005)
        raise DidNotComeBack(f"{what} within {patience} s")


def first(steps, condition):
    return next((step for step in steps if condition(step)), None)


def trained_together(since):
    """The last step of a pair that has trained for 20 steps, half way between two saved ones."""
    def condition(steps):
        steps = [step for step in steps if step["at"] > since]
        together = {step["step"] for step in steps if step["world"] == 2}
        if len(together) < 20 or not steps or steps[-1]["step"] % 10 != 5:
            return None
        return steps[-1]
    return condition


def lose(folder, since, victim, restarted):
    """Kills the process that `victim` gives, tells `restarted`, and watches the steps."""
    steps = Steps(folder)
    steps.wait(trained_together(since), "no 20 steps of both workers", START_PATIENCE)
    pid = victim(steps.all())
    os.kill(pid, signal.SIGKILL)
    killed = time.time()
    restarted()
    before = [step for step in steps.all() if step["at"] <= killed]
    known = {step["pid"] for step in before}

    # A step of both that was under way may still end at the survivor: it is none of the next.
    def is_next(step):
        return step["at"] > killed and (step["world"] == 1 or step["pid"] not in known)

    def is_full(step):
        return is_next(step) and step["world"] == 2

    following = steps.wait(lambda noted: first(noted, is_next), "no step after the kill")
    full = steps.wait(lambda noted: first(noted, is_full), "no step of both after the kill")
    done = max(step["step"] for step in before)
    return {"next": following["at"] - killed, "full": full["at"] - killed,
            "redone": max(0, done - following["step"] + 1), "since": full["at"]}


def torchrun(folder, step_seconds, kills):
    for number in range(kills):
        yield from torchrun_once(fresh(folder / str(number)), step_seconds)


def torchrun_once(folder, step_seconds):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               "--max-restarts", "3", WORKER, "torchrun", str(folder), step_seconds]
    with open(folder / "log", "wb") as log:
        agent = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield lose(folder, 0, lambda steps: max(step["pid"] for step in steps), lambda: None)
        except DidNotComeBack as problem:
            yield {"problem": f"{problem}; see {folder}/log"}
        finally:
            os.killpg(agent.pid, signal.SIGTERM)
            agent.wait()


def torchft(folder, step_seconds, kills, lighthouse_options=(), timeout=()):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{port}",
                   "LOGLEVEL": "WARNING"}
    with open(folder / "log", "wb") as log:
        def start(command, **more):
            return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log,
                                    env={**environment, **more})

        lighthouse_script = folder / "lighthouse.py"
        lighthouse_script.write_text(LIGHTHOUSE)
        lighthouse = start([str(lighthouse_script), "--min_replicas", "1", "--bind",
                            f"127.0.0.1:{port}", *lighthouse_options])

        def worker(replica):
            return start([WORKER, "torchft", str(folder), step_seconds, *timeout], REPLICA=f"r{replica}_")

        workers = [worker(0), worker(1)]

        def restart():
            workers[1].wait()
            workers[1] = worker(1)

        try:
            since = 0
            for _ in range(kills):
                lost = lose(folder, since, lambda steps: workers[1].pid, restart)
                since = lost["since"]
                yield lost
        except DidNotComeBack as problem:
            yield {"problem": f"{problem}; see {folder}/log"}
        finally:
            for process in [*workers, lighthouse]:
                process.kill()
                process.wait()


def main(build, step_seconds, kills):
    peers = {
        "torchrun": torchrun,
        "torchft": torchft,
        "torchft_short": lambda *arguments: torchft(
            *arguments, ["--heartbeat_timeout_ms", "1000"], ["5"]),
    }
    for name, run in peers.items():
        lost = list(run(fresh(build / name), step_seconds, kills))
        result = {key: [one[key] for one in lost if key in one] for key in ("next", "full", "redone")}
        problems = [one["problem"] for one in lost if "problem" in one]
        print(json.dumps({"peer": name, **result, "problems": problems}), flush=True)


if __name__ == "__main__":
    if "--prepared" not in sys.argv:
        prepare_and_run_again()
    main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3]))
