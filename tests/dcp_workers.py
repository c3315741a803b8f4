"""What the ranks of tests/test_dcp.py do. Each function runs in a process of its own: f(rank, world, folder)."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.distributed import checkpoint as torch_dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import szdnn
from szdnn.integrations import dcp

BOUNDS = {
    "rel": szdnn.Rel(1e-3),
    "robust": szdnn.Rel(1e-3, range="robust"),
    "std": szdnn.Std(0.05),
    "psnr": szdnn.PSNR(60),
    "abs": szdnn.Abs(2e-2),
    "pointwise": szdnn.PointwiseRel(1e-2),
}
TIME_LIMIT = 120


def run(folder: Path, *work: Callable[[int, int, str], None], world: int = 2) -> None:
    """Run functions on `world` gloo ranks, each in a process; what fails on one fails here, and so does a hang."""
    context = multiprocessing.spawn(_rank, (work, world, str(folder)), nprocs=world, join=False)
    for _ in range(TIME_LIMIT):
        if context.join(timeout=1):
            return
    for process in context.processes:
        process.kill()
    raise TimeoutError(f"{[function.__name__ for function in work]} took more than {TIME_LIMIT} s")


def _rank(rank: int, work: tuple[Callable[[int, int, str], None], ...], world: int, folder: str) -> None:
    faulthandler.enable()  # an abort in torch or in the core shall say where it was
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting-{work[0].__name__}-{world}"
    dist.init_process_group("gloo", meeting, timedelta(seconds=60), world, rank)
    try:
        for function in work:
            function(rank, world, folder)
        dist.barrier()  # a rank that leaves closes connections on which another may still wait
    except torch_dcp.api.CheckpointException as error:  # no Exception, and so not handed on
        raise AssertionError(str(error)) from None
    finally:
        dist.destroy_process_group()
    # All is checked. What torch's threads do while an interpreter is torn down is not: now and then one was destroyed
    # while it still ran ("terminate called without an active exception"), with no Python frame left.
    os._exit(0)


def originals() -> dict[str, torch.Tensor]:
    """Tensors whose halves differ so much that a shard's own range or spread would be another bound."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    lopsided = normal(256, 96)
    lopsided[:128] *= 0.01
    shifted = normal(96, 256)
    shifted[:, 128:] = shifted[:, 128:] * 0.001 + 40
    spiked = normal(200, 300)
    spiked[3, 5], spiked[7, 7], spiked[190, 1] = float("nan"), float("inf"), 1e6
    return {
        "rows": lopsided,
        "columns": shifted,
        "spiked": spiked,
        "uneven": normal(33, 77),
        "one_row": normal(1, 2048),  # the second rank's shard is empty
        "constant": torch.full((64, 64), 0.25),
        "half": normal(128, 64).to(torch.bfloat16),
        "integers": torch.arange(4096).reshape(64, 64),
        "copied": normal(64, 64),
        "plain": normal(50, 50),
        "small": normal(10),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
    }


PLACEMENTS = {"columns": Shard(1), "copied": Replicate(), "plain": None, "small": None, "scalar": None, "empty": None}


def sharded(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The tensors over all ranks: by rows, unless PLACEMENTS says otherwise."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    placed = {name: PLACEMENTS.get(name, Shard(0)) for name in tensors}
    return {n: t if placed[n] is None else distribute_tensor(t, mesh, [placed[n]]) for n, t in tensors.items()}


VALUES = {
    "epoch": 3,
    "nan": float("nan"),
    "huge": 1 << 80,
    "betas": (0.9, 0.999),
    "bytes": b"\x00\xff",
    "none": None,
    "dtype": torch.bfloat16,
    "size": torch.Size([2, 3]),
    "deep": {"list": [1, "two", True], "more": {"1": 2.5}},
}


def blank(value: Any) -> Any:
    """The same nesting with nothing in it."""
    return {key: blank(item) for key, item in value.items()} if isinstance(value, dict) else None


def save_all_bounds(rank: int, world: int, folder: str) -> None:
    state = {"tensors": sharded(originals()), "values": VALUES}
    for name, bound in BOUNDS.items():
        dcp.save(state, Path(folder, name), bound)
    dcp.save(state, Path(folder, "lossless"), szdnn.Lossless())


def model_and_optimizer(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 3))
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(3):
        torch.manual_seed(step)
        loss = model(torch.randn(16, 32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def full(state: Any) -> Any:
    """A nested state with every DTensor whole."""
    if isinstance(state, dict):
        return {key: full(value) for key, value in state.items()}
    return state.full_tensor() if isinstance(state, DTensor) else state


def save_fsdp(rank: int, world: int, folder: str) -> None:
    model, optimizer = model_and_optimizer(0)
    train(model, optimizer)
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "step": 3}
    dcp.save(state, Path(folder, "fsdp"), szdnn.Rel(1e-3))
    whole = full(state)
    if rank == 0:
        torch.save(whole, Path(folder, "fsdp.pt"))


def load_fsdp(rank: int, world: int, folder: str) -> None:
    """Resume in a new process from what `save_fsdp` wrote, on `world` ranks, and train on."""
    model, optimizer = model_and_optimizer(1)
    train(model, optimizer)  # so that the optimizer has state to load into
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "step": 0}
    dcp.load(state, Path(folder, "fsdp"))
    assert state["step"] == 3
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    weights, moments = get_state_dict(model, optimizer)
    whole = full({"model": weights, "optimizer": moments})
    if rank == 0:
        torch.save(whole, Path(folder, f"fsdp-loaded-{world}.pt"))
    train(model, optimizer)


def load_resharded(rank: int, world: int, folder: str) -> None:
    """Load what one process wrote, sharded along the other axis, and what two wrote, each rank something else."""
    saved = dcp.load_full(Path(folder, "single"))["tensors"]
    mesh = init_device_mesh("cpu", (world,))
    state: dict[str, Any] = {"tensors": {}, "values": blank(VALUES)}
    for name, tensor in saved.items():
        zeros = torch.zeros_like(tensor)
        state["tensors"][name] = distribute_tensor(zeros, mesh, [Shard(1)]) if tensor.dim() == 2 else zeros
    dcp.load(state, Path(folder, "single"))
    for name, tensor in saved.items():
        loaded = full(state["tensors"][name])
        assert torch.equal(loaded.nan_to_num(7), tensor.nan_to_num(7)), name
    assert repr(state["values"]) == repr(VALUES)


def save_in_background(rank: int, world: int, folder: str) -> None:
    """async_save keeps what the state was when it was called."""
    tensors = originals()
    state = {"tensors": sharded(tensors), "values": VALUES}
    future = dcp.async_save(state, Path(folder, "async"), szdnn.Rel(1e-3))
    for tensor in state["tensors"].values():
        tensor.zero_()
    future.result(timeout=60)


def save_in_a_process(rank: int, world: int, folder: str) -> None:
    """As save_in_background; and what goes wrong there is told here."""
    state = {"tensors": sharded(originals()), "values": VALUES}
    future = dcp.async_save(state, Path(folder, "process"), szdnn.Rel(1e-3), in_process=True)
    for tensor in state["tensors"].values():
        tensor.zero_()
    future.result(timeout=100)
    wrong = dcp.async_save(state, Path(folder, "wrong"), szdnn.Abs([1e-3] * 3, axis=0), in_process=True)
    with pytest.raises(BaseException, match="axis"):  # what it is wrapped in is torch's affair
        wrong.result(timeout=100)
    assert not Path(folder, "wrong", "szdnn.dcp.json").exists()
    again = dcp.async_save({"after": torch.ones(3000)}, Path(folder, "again"), szdnn.Rel(1e-3), in_process=True)
    again.result(timeout=100)


def refuse(rank: int, world: int, folder: str) -> None:
    """Errors are szdnn's own, on all ranks, also where one rank alone meets them."""
    state = sharded({"rows": torch.randn(64, 64)})
    target = Path(folder, "refused")
    with pytest.raises(szdnn.ArchiveError, match=r"when: .*datetime.timedelta"):
        dcp.save({**state, "when": timedelta(1)}, target, szdnn.Rel(1e-3))
    assert not list(target.iterdir())
    with pytest.raises(szdnn.BoundError, match="axis"):
        dcp.save(state, target, szdnn.Abs([1e-3] * 3, axis=0))
    assert not (target / "szdnn.dcp.json").exists()
    dist.barrier()
    with pytest.raises(torch_dcp.api.CheckpointException, match="needs planner"):
        torch_dcp.save(state, storage_writer=dcp.StorageWriter(target))
    with pytest.raises(szdnn.ArchiveError, match="no complete szdnn checkpoint"):
        dcp.load(state, target)
    dcp.save(state, target, szdnn.Rel(1e-3))
    with pytest.raises(torch_dcp.api.CheckpointException, match="needs planner"):
        torch_dcp.load(state, storage_reader=dcp.StorageReader(target))
    dist.barrier()
    if rank == 0:
        damaged = sorted(target.glob("rank-00001-*"))[0]
        data = bytearray(damaged.read_bytes())
        data[-20] ^= 1
        damaged.write_bytes(data)
    dist.barrier()
    with pytest.raises(szdnn.CorruptFrame, match="rows"):  # only the second rank reads that file
        dcp.load(state, target)
