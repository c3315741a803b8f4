"""All campaigns of damage and abuse, the rivals beside where they can be compared; their counts go to trust.csv.

Each is a command of its own with more options: fuzz, bitrot, platforms, races, soak, kill.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import campaign

CAMPAIGNS = ("fuzz", "bitrot", "promises", "platforms", "races", "kill", "soak")
RIVALS = ("sz3", "zfp", "pcodec", "zipnn")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--campaigns", type=lambda text: text.split(","), default=list(CAMPAIGNS),
                        metavar=",".join(CAMPAIGNS))  # fmt: skip
    parser.add_argument("--minutes", type=float, default=10, help="of each fuzz target (default 10)")
    parser.add_argument("--errors", type=float, default=1e6, help="in szdnn's frames and archives (default 1e6)")
    parser.add_argument("--rival-errors", type=float, default=1e4, help="in each rival's streams (default 1e4)")
    parser.add_argument("--arrays", type=int, default=2000, help="hostile arrays for each codec (default 2000)")
    parser.add_argument("--values", type=float, default=1e9, help="of the soak (default 1e9)")
    parser.add_argument("--kills", type=int, default=500, help="of saves (default 500)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--csv", type=Path, default=campaign.RESULTS, help="default: bench/results/trust.csv")


def run(args: argparse.Namespace) -> int:
    """Run what was asked for, one after the other; the worst exit code of szdnn's."""
    unknown = [name for name in args.campaigns if name not in CAMPAIGNS]
    if unknown:
        print(f"no such campaign: {unknown[0]}")
        return 2
    return max(_run(name, args) for name in args.campaigns)


def _run(name: str, args: argparse.Namespace) -> int:
    if name == "promises":
        return _promises(args)
    from bench.__main__ import main

    shared = ["--csv", str(args.csv)]
    jobs = ["--jobs", str(args.jobs)]
    rivals = ["--rival-errors", str(args.rival_errors), "--rivals", ",".join(RIVALS)]
    return main(
        {
            "fuzz": ["fuzz", "--minutes", str(args.minutes), *jobs],
            "bitrot": ["bitrot", "--errors", str(args.errors), *rivals, *jobs],
            "platforms": ["platforms"],
            "races": ["races"],
            "kill": ["kill", "--kills", str(args.kills)],
            "soak": ["soak", "--values", str(args.values), *jobs],
        }[name]
        + shared
    )


def _promises(args: argparse.Namespace) -> int:
    from bench import promises

    found = []
    for name in ("szdnn", *RIVALS):
        rival = promises.known(name)
        if rival.available():
            found.append(promises.under_abuse(rival, args.arrays, 1, args.jobs))
        else:
            print(f"{name} is not installed")
    campaign.record(args.csv, found)
    return int(any(finding.bad for finding in found if finding.codec == "szdnn"))
