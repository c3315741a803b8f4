"""What writer and reader of archives (`archive`) share: reserved names, own metadata, the text of the digest."""

from __future__ import annotations

import json
from collections.abc import Mapping

from . import skeleton as skeletons

FORMAT = "szdnn"
VERSION = 0
SKELETON = skeletons.RESERVED_PREFIX + "skeleton"
SMALL = skeletons.RESERVED_PREFIX + "small"


def own_metadata(digest: str) -> dict[str, str]:
    """What an archive's header says beside the source's own metadata."""
    return {"format": FORMAT, "version": str(VERSION), "digest": digest}


def places_text(places: Mapping[str, tuple[int, int]]) -> bytes:
    """The part of what is digested that tells where entries lie: start and stop by name, in their order."""
    return json.dumps([[name, *place] for name, place in places.items()], separators=(",", ":")).encode()
