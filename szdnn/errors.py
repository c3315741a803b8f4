"""The exceptions szdnn raises.

Error
├── CorruptFrame        damaged or truncated data: what was wrong and where
├── UnsupportedFrame    made by a newer version of the format
├── BoundError          a bound that makes no sense or cannot be met, or a dtype it does not apply to
├── ArgumentError       any other argument out of range
├── ReferenceMismatch   another reference than the one the frame was made with
├── LimitError          the output would be larger than the caller's max_bytes
└── ArchiveError        a file that cannot be read or written as asked
"""

from __future__ import annotations


class Error(Exception):
    """The base of all exceptions that szdnn raises on purpose."""


class CorruptFrame(Error, ValueError):
    """The data is damaged, truncated or not a frame at all."""


class UnsupportedFrame(Error, ValueError):
    """The data was made by a newer version of the format, or needs a feature that this version lacks."""


class BoundError(Error, ValueError):
    """The error bound is not valid, does not fit the dtype, or cannot be met."""


class ArgumentError(Error, ValueError):
    """An argument is out of range or of the wrong type."""


class ReferenceMismatch(Error, ValueError):
    """The reference given is not the one that the frame was made with."""


class LimitError(Error, ValueError):
    """The declared output is larger than max_bytes allows."""


class ArchiveError(Error, ValueError):
    """A file or state that cannot be read or written as asked."""
