"""The README's table of trust, out of trust.csv."""

from __future__ import annotations

from collections.abc import Callable

from bench.tables.common import Record, machine, markdown, records_of

_TRUST_CODECS = {"szdnn": "**szdnn**", "sz3": "SZ3 (pysz)", "zfp": "ZFP (zfpy)", "pcodec": "pcodec", "zipnn": "ZipNN"}
_DAMAGE = ("single bits", "bursts to 32 bits", "bursts to 4 KB", "truncations", "lost sectors")


def _of(records: list[Record], campaign: str, codec: str) -> list[Record]:
    return [r for r in records if r["campaign"] == campaign and r["codec"] == codec]


def _sum(records: list[Record], key: str) -> int:
    return sum(int(r[key]) for r in records)


def _damage_line(kind: str, records: list[Record]) -> list[str]:
    """Of each codec: how much of the damage it refused, and how often it died."""
    cells = []
    for codec in _TRUST_CODECS:
        found = [r for r in _of(records, "bitrot", codec) if r["case"].startswith(kind)]
        if not found:
            cells.append("-")
            continue
        harmless = _sum(found, "tried") - _sum(found, "good") - _sum(found, "bad")
        share = 100 * _sum(found, "good") / max(_sum(found, "tried") - harmless, 1)
        dead = _sum(found, "crashed")
        shown = "100%" if share == 100 else f"{min(share, 99.9):.1f}%"
        cells.append(f"{shown} of {_sum(found, 'tried'):,}" + (f", {dead:,} crashes" if dead else ""))
    return [f"{kind} detected", *cells]


def _kept(found: list[Record]) -> str:
    if not found:
        return "-"
    bad, tried = _sum(found, "bad"), _sum(found, "tried")
    dead = f", {_sum(found, 'crashed'):,} crashes" if _sum(found, "crashed") else ""
    return f"{bad:,} of {tried:,}{dead}"


def _all_good(found: list[Record]) -> str:
    return f"{_sum(found, 'good'):,} of {_sum(found, 'tried'):,}" if found else "-"


def _platforms(found: list[Record]) -> str:
    agreed = sum(r["good"] == r["tried"] for r in found)
    return f"{agreed} of {len(found)}" if found else "-"


_ABUSE: list[tuple[str, str, Callable[[list[Record]], str]]] = [
    ("hostile arrays that broke the promise", "promises", _kept),
    ("values beyond their bound in the soak", "soak", _kept),
    ("crashes in fuzz executions", "fuzz", _kept),
    ("kills of a save survived", "kill", _all_good),
    ("wrong results of 64 threads at once", "races", _kept),
    ("ways to decode that agree bit for bit", "platforms", _platforms),
]


def _trust_note(records: list[Record]) -> str:
    names = [r["case"] for r in _of(records, "platforms", "szdnn")]
    fuzzed = len(_of(records, "fuzz", "szdnn"))
    note = (
        "Detected: of the damage that changed a value. Hostile arrays: NaN, infinities, denormals, ties, huge spreads "
    )
    note += "... under an absolute bound (pcodec, ZipNN: losslessly); a refusal counts. Crashes: hangs too. "
    return f"{note}{fuzzed} fuzz targets. Ways to decode: {'; '.join(names)}"


def trust_cells(records: list[Record]) -> tuple[list[str], list[list[str]], str]:
    """Header, lines and the note below."""
    lines = [_damage_line(kind, records) for kind in _DAMAGE]
    lines += [[title, *(cell(_of(records, name, codec)) for codec in _TRUST_CODECS)] for title, name, cell in _ABUSE]
    return ["", *_TRUST_CODECS.values()], lines, _trust_note(records)


def trust_table() -> str:
    """What the campaigns of damage and abuse found."""
    records = records_of("trust.csv")
    header, lines, note = trust_cells(records)
    return markdown(header, lines, f"{note} ({machine(records)}).")


TABLES: dict[str, Callable[[], str]] = {"trust": trust_table}
