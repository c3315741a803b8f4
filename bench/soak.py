"""Does the guarantee hold? Random and adversarial arrays, every value checked against its bound in exact arithmetic."""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench import campaign, machine, soak_judge
from bench.soak_state import State, load
from bench.soak_worker import Orders, Tally, run_case, work

_STUCK_SECONDS = 300.0
_STATUS_SECONDS = 10.0
_SHOWN = 20


@dataclass
class Crew:
    """The processes and what they share."""

    processes: list[BaseProcess]
    current: list[Any]
    stop: Any
    reports: Any


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--values", type=float, default=1e9, help="values to check (default 1e9)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; printed")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--case", type=int, default=None, help="replay this one array of the seed, all its cases")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    parser.add_argument("--folder", type=Path, default=Path("soak-violations"), help="where reproducers go")
    parser.add_argument("--state", type=Path, help="go on from what this file says, and keep it up to date: --values "
                        "then counts those of earlier steps too")  # fmt: skip
    parser.add_argument("--csv", type=Path, help="put the counts into this file")


def run(args: argparse.Namespace) -> int:
    """Run until enough values are checked; 0 without a violation, 1 with one."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            judge = soak_judge.build(Path(folder))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"soak: the judge needs a C compiler: {error}", file=sys.stderr)
            return 2
        if args.case is not None:
            return _replay(int(time.time()) if args.seed is None else args.seed, args.case, args.folder, judge)
        return _go_on(args, judge)


def _go_on(args: argparse.Namespace, judge: Path) -> int:
    try:
        state = load(args.state, args.seed, int(time.time()))
    except (ValueError, KeyError, TypeError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(f"soak: seed {state.seed}, {args.jobs} processes, {machine.name()}", flush=True)
    if state.next:
        print(f"going on from case {state.next:,}: {_rate(state.total, state.seconds)}", flush=True)
    _step(state, args, judge)
    _summary(state.total, state.seconds)
    if args.csv:
        campaign.record(args.csv, [_finding(state)])
    return int(bool(state.total.violations))


def _step(state: State, args: argparse.Namespace, judge: Path) -> None:
    """Go on until there is enough, or Ctrl-C."""
    start, before = time.monotonic(), state.seconds
    crew = _start(state.seed, state.next, args.jobs, args.folder, judge)

    def save() -> float:
        state.seconds = before + time.monotonic() - start
        state.next = max(state.next, *(current.value + 1 for current in crew.current))
        if args.state:
            state.save(args.state)
        return state.seconds

    try:
        _watch(crew, state.total, args, start, save)
    except KeyboardInterrupt:
        print("interrupted")
    _finish(crew, state.total)
    save()


def _finding(state: State) -> campaign.Finding:
    total = state.total
    bad = len(total.violations)
    note = f"{total.cases} cases, seed {state.seed}"
    good = total.values - bad
    return campaign.Finding(
        "soak", "natural and adversarial arrays", "szdnn", total.values, "values", good, bad, 0, note
    )


def _replay(seed: int, index: int, folder: Path, judge: Path) -> int:
    from bench.soak_case import draw

    total = Tally()
    for case in draw(seed, index):
        print(case.describe())
        run_case(case, total, folder, soak_judge.load(judge))
    print("\n".join(total.violations) or "no violation")
    return int(bool(total.violations))


def _start(seed: int, begin: int, jobs: int, folder: Path, judge: Path) -> Crew:
    context = multiprocessing.get_context("spawn")
    crew = Crew([], [context.Value("q", begin - 1) for _ in range(jobs)], context.Event(), context.Queue())
    for first in range(jobs):
        orders = Orders(seed, begin + first, jobs, folder, judge, crew.stop, crew.current[first], crew.reports)
        process = context.Process(target=work, args=(orders,), daemon=True)
        process.start()
        crew.processes.append(process)
    return crew


def _watch(crew: Crew, total: Tally, args: argparse.Namespace, start: float, save: Callable[[], float]) -> None:
    """Collect reports until there is enough, too late, a violation, a dead process or silence.

    save: called now and then; tells the seconds of all steps.
    """
    heard = shown = time.monotonic()
    while total.values < args.values and time.monotonic() - start < args.seconds:
        if total.violations and not (args.keep_going and all(process.is_alive() for process in crew.processes)):
            break
        try:
            total.add(crew.reports.get(timeout=1.0))
            heard = time.monotonic()
        except queue.Empty:
            _look_after(crew, total, time.monotonic() - heard)
        if time.monotonic() - shown > _STATUS_SECONDS:
            shown = time.monotonic()
            print(f"  {total.values / args.values:6.1%}  {_rate(total, save())}", file=sys.stderr, flush=True)


def _look_after(crew: Crew, total: Tally, silence: float) -> None:
    """A crash or a hang of the codec is a violation, too."""
    for process, current in zip(crew.processes, crew.current, strict=True):
        if process.exitcode not in (None, 0):
            total.violations.append(f"case {current.value}: the process died with exit code {process.exitcode}")
        elif silence > _STUCK_SECONDS:
            total.violations.append(f"case {current.value}: no report for {silence:.0f} seconds")


def _finish(crew: Crew, total: Tally) -> None:
    """Stop the processes and take their last reports."""
    crew.stop.set()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(process.is_alive() for process in crew.processes):
        try:
            total.add(crew.reports.get(timeout=0.2))
        except queue.Empty:
            continue
    while not crew.reports.empty():
        total.add(crew.reports.get())
    for process in crew.processes:
        process.kill()


def _rate(total: Tally, seconds: float) -> str:
    codec = total.raw_bytes / 1e6 / max(total.codec_s, 1e-9)
    return (
        f"{total.values:,} values in {total.cases:,} cases, {total.values / 1e6 / max(seconds, 1e-9):.1f} M/s "
        f"(codec both ways {codec:.0f} MB/s), {len(total.violations)} violations"
    )


def _summary(total: Tally, seconds: float) -> None:
    print(f"{_rate(total, seconds)}, {total.refused} refused, {seconds:.0f} s")
    if total.frame_bytes:
        print(f"ratio over all: {total.raw_bytes / total.frame_bytes:.2f}")
    shares = {"dtype": total.by_dtype, "bound": total.by_kind, "predictor": total.by_predictor,
              "source": total.by_source}  # fmt: skip
    for title, counts in shares.items():
        parts = [f"{key} {count:,}" for key, count in sorted(counts.items(), key=lambda item: -item[1])]
        print(f"values by {title}: {', '.join(parts)}")
    for text in total.violations[:_SHOWN]:
        print(f"VIOLATION {text}")
    if len(total.violations) > _SHOWN:
        print(f"... and {len(total.violations) - _SHOWN} more violations")
