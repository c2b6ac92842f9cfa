"""Gloo processes that run functions, started once for many tests."""

import os
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

PATIENCE = 60  # seconds


def serve(number: int, count: int, store: str, environment: dict[str, str], pipe: Connection) -> None:
    """Run the functions that come through the pipe on one rank, until None comes."""
    os.environ |= environment
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=count)
    while (job := pipe.recv()) is not None:
        function, arguments = job
        torch.manual_seed(number)  # ranks cannot agree by drawing the same numbers
        try:
            answer = True, function(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))
    dist.destroy_process_group()


class Ranks:
    """Callable that runs a function on all ranks."""

    def __init__(self, pipes: list[Connection]) -> None:
        self.pipes = pipes

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return the result of the function on each rank."""
        for pipe in self.pipes:
            pipe.send((function, arguments))
        answers = []
        for number, pipe in enumerate(self.pipes):
            assert pipe.poll(PATIENCE), f"rank {number} did not answer"
            done, answer = pickle.loads(pipe.recv_bytes())
            assert done, f"rank {number}: {answer}"
            answers.append(answer)
        return answers


@contextmanager
def start_ranks(count: int, folder: Path) -> Iterator[Ranks]:
    """Start processes with the environment that torchrun gives, in which trainers find themselves on one machine."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["lightly_aug.train"])  # imported once, not by each process
    ends = [context.Pipe() for _ in range(count)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        context.Process(
            target=serve,
            args=(
                number, count, str(folder / "store"),
                {k: str(v) for k, v in (common | {"RANK": number, "LOCAL_RANK": number, "GROUP_RANK": 0}).items()}
                | {"TORCHELASTIC_RUN_ID": "tests"},
                theirs,
            ),
            daemon=True,
        )
        for number, (_, theirs) in enumerate(ends)
    ]  # fmt: skip
    for process in processes:
        process.start()
    yield Ranks([ours for ours, _ in ends])
    for ours, _ in ends:
        ours.send(None)
    for process in processes:
        process.join(10)
        process.kill()
