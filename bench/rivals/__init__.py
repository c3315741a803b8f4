"""Compressors to compare with, one file each, and the lists the commands choose from."""

from __future__ import annotations

from bench.rivals import fpzip, hdf5, ours, pcodec, sz3, zfp, zipnn, zstd
from bench.rivals.base import Rival

BASELINE = "sz3"


def everyone() -> list[Rival]:
    """All rivals, in the order of the tables."""
    files = (sz3, hdf5, zfp, zstd, pcodec, fpzip, zipnn)
    return [rival for file in files for rival in file.RIVALS]


def select(names: list[str] | None, efforts: list[int], isas: list[str]) -> tuple[list[Rival], list[Rival]]:
    """The compressors to measure (szdnn first) and those that are absent; names=None takes all rivals."""
    known = {rival.name: rival for rival in everyone()}
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise SystemExit(f"no such rival: {', '.join(unknown)}; known: {', '.join(known)}")
    wanted = list(known.values()) if names is None else [known[name] for name in known if name in names]
    candidates: list[Rival] = [*ours.codecs(efforts, isas), *wanted]
    present = [rival for rival in candidates if rival.available()]
    absent = [rival for rival in candidates if rival not in present]
    return present, absent
