"""Writes symbol streams (csrc/FORMAT.md, section 4) of any kind, also kinds and choices which the encoder never makes,
and such as no encoder may write. Shares no code with the codec."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

CONSTANT, RAW, HUFFMAN, RANS, CLASSES = range(5)
SPARSE = 6
STATE_MIN = 1 << 16


def zigzag(v: int) -> int:
    return 2 * v if v >= 0 else -2 * v - 1


def varint(v: int) -> bytes:
    out = b""
    while v >= 0x80:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


class BitWriter:
    """A bit string, from the least significant bit up."""

    def __init__(self) -> None:
        self.value = self.size = 0

    def put(self, number: int, count: int) -> None:
        self.value |= number << self.size
        self.size += count

    def exp_golomb(self, u: int, g: int) -> None:
        v = u + (1 << g)
        z = v.bit_length() - 1 - g
        self.put(1 << z, z + 1)
        self.put(v - (1 << (z + g)), z + g)

    def bytes(self) -> bytes:
        return self.value.to_bytes((self.size + 7) // 8, "little")


def places(b: BitWriter, top: int, lo: int, hi: int, expected: int) -> None:
    b.exp_golomb(zigzag(top - expected), 2)
    b.exp_golomb(top - lo, 2)
    b.exp_golomb(hi - top, 2)


def explicit_table(frequencies: dict[int, int], top: int, expected: int = 128, m: int = 11) -> bytes:
    """Frequencies by symbol, exactly (with m = 11); that of top is not stored."""
    lo, hi = min(frequencies), max(frequencies)
    b = BitWriter()
    places(b, top, lo, hi, expected)
    b.put(m, 4)
    previous = 6
    for symbol in range(lo, hi + 1):
        if symbol != top:
            f = frequencies.get(symbol, 0)
            b.exp_golomb(zigzag(f.bit_length() - previous), 0)
            previous = f.bit_length()
            if f > 1:
                b.put(f - (1 << (previous - 1)) >> max(0, previous - 1 - m), min(previous - 1, m))
    return b.bytes()


def interpolated_table(top: int, lo: int, hi: int, p: int, g: int, coded: Iterable[int], expected: int = 128) -> bytes:
    """`coded` are the zigzags of knots less their guesses."""
    b = BitWriter()
    places(b, top, lo, hi, expected)
    b.put(15, 4)
    b.put(p, 2)
    b.put(g, 2)
    for u in coded:
        b.exp_golomb(u, g)
    return b.bytes()


def knots(reach: int) -> int:
    """How many knots there are on a side."""
    return sum(d < reach for d in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)) + (reach > 0)


def rans(
    runs: Sequence[tuple[dict[int, int], Sequence[int]]], lanes_log2: int, ends: Sequence[int] = (), extra: bytes = b""
) -> bytes:
    """The number of lanes, the length and the payload; states end at 2^16 + ends, 2^16 for lanes without one."""
    lanes = 1 << lanes_log2
    states = [STATE_MIN + (ends[j] if j < len(ends) else 0) for j in range(lanes)]
    steps = []
    for frequencies, symbols in runs:
        order = sorted(frequencies)
        below = dict(zip(order, itertools.accumulate((frequencies[s] for s in order), initial=0), strict=False))
        steps += [(frequencies[s], below[s]) for s in symbols]
    words = []
    for i in range(len(steps) - 1, -1, -1):
        f, c = steps[i]
        x = states[i % lanes]
        while x >= f << 20:
            words.append(x & 0xFFFF)
            x >>= 16
        states[i % lanes] = (x // f << 12) + c + x % f
    b = BitWriter()
    for x in states:
        length = x.bit_length() - 1
        b.put(length - 16, 4)
        b.put(x - (1 << length), length)
    payload = b.bytes() + b"".join(struct.pack("<H", word) for word in reversed(words)) + extra
    return bytes([lanes_log2]) + varint(len(payload)) + payload


def raw(symbols: Iterable[int]) -> bytes:
    return bytes([RAW, *symbols])


@dataclass
class Table:
    """Of a class: the one value, or frequencies and their top; `written` takes the place of the explicit table."""

    constant: int | None = None
    frequencies: dict[int, int] = field(default_factory=dict)
    top: int = 0
    written: bytes | None = None
    coder: int | None = None

    def bytes(self, expected: int) -> bytes:
        if self.constant is not None:
            return bytes([CONSTANT if self.coder is None else self.coder, self.constant])
        table = self.written if self.written is not None else explicit_table(self.frequencies, self.top, expected)
        return bytes([RANS if self.coder is None else self.coder]) + table


@dataclass
class ClassStream:
    """A stream of coder 4. What is None is worked out from the rest; a forger sets it otherwise."""

    symbols: Sequence[int]
    rows: Sequence[int]  # the level of each
    columns: Sequence[int]
    row_levels: int
    column_levels: int
    tables: dict[int, Table]
    lanes_log2: int = 0
    width: int | None = None
    nibbles: int | None = None
    row_counts: Sequence[int] | None = None  # without the last
    column_counts: Sequence[int] | None = None
    counts_padding: int = 0
    levels: bytes | None = None
    levels_size: int | None = None
    carried: bytes | None = None
    beyond: int = 0  # to be added to lane 0's last state
    extra: bytes = b""  # at the payload's end

    def parts(self) -> dict[int, list[int]]:
        """The symbols of each class."""
        found: dict[int, list[int]] = {}
        places = itertools.product(self.rows, self.columns)
        for (r, c), symbol in zip(places, self.symbols, strict=True):
            found.setdefault(r + c, []).append(symbol)
        return found

    def level_bytes(self) -> bytes:
        if self.levels is not None:
            return self.levels
        rows = raw(self.rows) if self.row_levels > 1 else b""
        return rows + (raw(self.columns) if self.column_levels > 1 else b"")

    def counts(self) -> bytes:
        b = BitWriter()
        rows = [list(self.rows).count(level) for level in range(self.row_levels - 1)]
        columns = [list(self.columns).count(level) for level in range(self.column_levels - 1)]
        for count in rows if self.row_counts is None else self.row_counts:
            b.exp_golomb(count, 7)
        for count in columns if self.column_counts is None else self.column_counts:
            b.exp_golomb(count, 7)
        if self.counts_padding:
            assert b.size % 8
            b.put(self.counts_padding, -b.size % 8)
        return b.bytes()

    def bytes(self) -> bytes:
        width = len(self.columns) if self.width is None else self.width
        nibbles = self.row_levels - 1 | self.column_levels - 1 << 4 if self.nibbles is None else self.nibbles
        levels, room = self.level_bytes(), 2 << self.lanes_log2
        size = len(levels) if self.levels_size is None else self.levels_size
        out = bytes([CLASSES]) + varint(width) + bytes([nibbles]) + varint(size) + self.counts()
        expected, runs = 128, []
        for k, part in sorted(self.parts().items()):
            table = self.tables[k]
            out += table.bytes(expected)
            if table.constant is None:
                runs.append((table.frequencies, part))
                expected = table.top
        carried = (levels[:room] if self.carried is None else self.carried).ljust(room, b"\0")
        ends = list(struct.unpack(f"<{room // 2}H", carried))
        ends[0] += self.beyond
        return out + rans(runs, self.lanes_log2, ends, self.extra) + levels[room:]


def constant(symbol: int) -> bytes:
    return bytes([CONSTANT, symbol])


@dataclass
class SparseStream:
    """A stream of coder 6: `others` at `places`, all else `commonest`. What is None is worked out from the rest; a
    forger sets it otherwise."""

    commonest: int
    places: Sequence[int]
    others: Sequence[int]
    shift: int = 0
    gaps: Sequence[int] | None = None  # the gap symbols
    count: int | None = None  # of gap symbols
    gap_stream: bytes | None = None
    low: bytes | None = None
    other_stream: bytes | None = None

    def symbols(self, n: int) -> list[int]:
        """What the stream holds."""
        made = [self.commonest] * n
        for place, other in zip(self.places, self.others, strict=True):
            made[place] = other
        return made

    def lengths(self) -> list[int]:
        """How many commonest symbols there are before each other one."""
        return [place - before - 1 for before, place in itertools.pairwise([-1, *self.places])]

    def gap_symbols(self) -> list[int]:
        made: list[int] = []
        for length in self.lengths():
            more, last = divmod(length >> self.shift, 255)
            made += [255] * more + [last]
        return made

    def low_bits(self) -> bytes:
        b = BitWriter()
        for length in self.lengths():
            b.put(length & ((1 << self.shift) - 1), self.shift)
        return b.bytes()

    def bytes(self) -> bytes:
        gaps = self.gap_symbols() if self.gaps is None else self.gaps
        listed = (raw(gaps) if gaps else b"") if self.gap_stream is None else self.gap_stream
        low = self.low_bits() if self.low is None else self.low
        others = (raw(self.others) if self.others else b"") if self.other_stream is None else self.other_stream
        count = varint(len(gaps) if self.count is None else self.count)
        return bytes([SPARSE, self.commonest, self.shift]) + count + listed + low + others
