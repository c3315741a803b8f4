"""Planners that keep pickle out of a distributed checkpoint, and give shards the bound of their whole tensor.

torch's default planners write what is not a tensor with torch.save and read it with torch.load(weights_only=False),
which runs whatever code the file names. These write JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, WriteItem, WriteItemType

from ... import torch_leaves
from ...arrays import as_array
from ...bounds import Bound, Lossless
from ...errors import ArchiveError
from ...plan import Plan
from ...skeleton import Path as StatePath
from ...skeleton import decode_state, encode_state
from ...source import Json
from ...state import Flattener
from .bounds import Summary, needs_summary, shard_bound, summarize, whole_bound

Mappings = Mapping[str, tuple[str | int, ...]]


@dataclass(frozen=True)
class LocalFindings:
    """What a rank tells the coordinator: where its items stand in the nested state, and of its shards."""

    mappings: Mappings
    summaries: Mapping[MetadataIndex, Summary]


@dataclass(frozen=True)
class Decisions:
    """What the coordinator tells a rank: bounds of the whole tensors it has shards of, and the count of lossy
    generations."""

    bounds: Mapping[str, Bound]
    generations: int


def encode_value(name: str, value: object) -> Json:
    """A value that is not a tensor, as JSON: None, bool, int, float, str, bytes, dtypes, and dicts, lists, tuples, sets
    of them.

    Raises ArchiveError naming the item for anything else.
    """

    def leaf(value: object, path: StatePath) -> Json | None:
        return None if isinstance(value, torch.Tensor) else torch_leaves.node(Flattener(False), value, path)

    try:
        return encode_state(value, leaf)
    except ArchiveError as error:
        raise ArchiveError(
            f"{name}: {error}. Beside tensors a checkpoint keeps None, bool, int, float, str, bytes, dtypes, and "
            "dicts, lists, tuples and sets of these; turn the value into such or leave it out"
        ) from None


class SavePlanner(DefaultSavePlanner):
    """torch's default planner, less pickle, with an error bound for each tensor.

    bound: a bound for every tensor, by the default rules of `szdnn.plan`, or a Plan. Rel, Std and PSNR of a sharded
        tensor refer to the whole tensor; what they need is gathered in the plan step, one pass over the shards.
    generations: how many times the values have been through lossy compression before; the checkpoint counts one more if
        anything in it is lossy.

    Raises ArchiveError from the plan step, before anything is written, for values that JSON can't carry.
    """

    def __init__(
        self,
        bound: Bound | Plan,
        *,
        generations: int = 0,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        dedup_save_to_lowest_rank: bool = False,
    ) -> None:
        super().__init__(
            flatten_state_dict=flatten_state_dict,
            flatten_sharded_tensors=flatten_sharded_tensors,
            dedup_save_to_lowest_rank=dedup_save_to_lowest_rank,
        )
        self.bounds = Plan.of(bound)
        self.generations = generations
        self._decisions = Decisions({}, generations)

    def create_local_plan(self) -> SavePlan:
        """torch's plan, and a summary of each shard whose bound depends on the whole tensor."""
        plan = super().create_local_plan()
        summaries = {}
        for item in plan.items:
            if item.type is WriteItemType.BYTE_IO:
                encode_value(item.index.fqn, self.lookup_object(item.index))
            elif item.type is WriteItemType.SHARD:
                bound = self._rule(item)
                if needs_summary(bound):
                    summaries[item.index] = summarize(self.resolve_data(item), bound, _total(item))
        return replace(plan, planner_data=LocalFindings(dict(plan.planner_data or {}), summaries))

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        """torch's plan, in which each rank's part carries the bounds of the whole tensors it has shards of."""
        findings: list[LocalFindings] = [plan.planner_data for plan in all_plans]
        unwrapped = [
            replace(plan, planner_data=found.mappings) for plan, found in zip(all_plans, findings, strict=True)
        ]
        plans, metadata = super().create_global_plan(unwrapped)
        # Keyed by name and offset: a shard that several ranks have counts once.
        shards = {index: summary for found in findings for index, summary in found.summaries.items()}
        by_name: dict[str, list[Summary]] = {}
        for index, summary in shards.items():
            by_name.setdefault(index.fqn, []).append(summary)
        rules = {item.index.fqn: self._rule(item) for plan in plans for item in plan.items if item.index.fqn in by_name}
        whole = {name: whole_bound(rule, by_name[name]) for name, rule in rules.items()}
        is_lossy = any(not isinstance(self._rule(item), Lossless) for plan in plans for item in plan.items)
        count = self.generations + is_lossy
        return [replace(plan, planner_data=Decisions(_of_items(plan, whole), count)) for plan in plans], metadata

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """Keep what the coordinator decided."""
        self._decisions = new_plan.planner_data
        return super().finish_plan(new_plan)

    @property
    def generations_after(self) -> int:
        """How many times the values will have been through lossy compression, once there is a plan."""
        return self._decisions.generations

    def bound_of(self, item: WriteItem) -> Bound:
        """The bound that the data of a tensor item is to be compressed within."""
        if item.type is WriteItemType.TENSOR or item.tensor_data is None:
            return self._rule(item)
        bound = self._decisions.bounds.get(item.index.fqn) or self._rule(item)
        return shard_bound(bound, item.tensor_data.chunk.offsets, item.tensor_data.chunk.sizes)

    def _rule(self, item: WriteItem) -> Bound:
        """The bound of the whole tensor, as the user or the default rules say it."""
        data = item.tensor_data
        if data is None:
            return Lossless()
        dtype = as_array(torch.empty(0, dtype=data.properties.dtype)).dtype
        return self.bounds.bound(item.index.fqn, dtype, tuple(data.size))

    def transform_object(self, write_item: WriteItem, object: Any) -> Any:
        """A tensor as it is, anything else as JSON."""
        if write_item.type is WriteItemType.BYTE_IO:
            return io.BytesIO(json.dumps(encode_value(write_item.index.fqn, object)).encode())
        return object


def _total(item: WriteItem) -> int:
    return item.tensor_data.size.numel() if item.tensor_data else 0


def _of_items(plan: SavePlan, bounds: Mapping[str, Bound]) -> dict[str, Bound]:
    return {item.index.fqn: bounds[item.index.fqn] for item in plan.items if item.index.fqn in bounds}


class LoadPlanner(DefaultLoadPlanner):
    """torch's default planner, less pickle: what is not a tensor is read as JSON.

    allow_partial_load: leave items alone that the state has and the checkpoint lacks, instead of failing.
    """

    def __init__(
        self,
        *,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        allow_partial_load: bool = False,
    ) -> None:
        super().__init__(flatten_state_dict, flatten_sharded_tensors, allow_partial_load)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Put a value that is not a tensor into the state. Raises ArchiveError when it is damaged."""
        name = read_item.dest_index.fqn
        loaded = decode_value(name, json.loads(value.getvalue()))
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], loaded)
        else:
            self.state_dict[name] = loaded


def decode_value(name: str, node: Json) -> object:
    """The inverse of `encode_value`."""

    def leaf(node: dict[str, Json]) -> object:
        if "torch" not in node:
            raise ArchiveError(f"{name}: a tensor stands where a value should")
        return torch_leaves.rebuild_object(node)

    return decode_state(node, leaf)
