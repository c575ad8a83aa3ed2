"""What a page needs beside itself: style, scripts and pictures, read once, named by what is in them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from tallystick.dashboard.visit import ROOT, Sent, Visit

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, as it is and compressed, and the digest that its address carries."""

    body: bytes
    compressed: bytes
    media_type: str
    digest: str


@cache
def all_of_them() -> dict[str, Asset]:
    """Return every asset by its path below the folder; nothing else can be asked for."""
    found = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in MEDIA_TYPES:
            body = path.read_bytes()
            digest = sha256(body).hexdigest()[:16]
            name = path.relative_to(FOLDER).as_posix()
            found[name] = Asset(body, gzip.compress(body, mtime=0), MEDIA_TYPES[path.suffix], digest)
    return found


def address(name: str) -> str:
    """Return the address of an asset, which is another one as soon as its content is."""
    return f"{ROOT}/static/{name}?{all_of_them()[name].digest}"


async def get(visit: Visit) -> Sent | None:
    """Send an asset; None where there is none."""
    asset = all_of_them().get(visit.parts["file"])
    if asset is None:
        return None
    is_current = any(name == asset.digest for name, _ in visit.query)
    headers = {"Cache-Control": FOR_EVER if is_current else "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" in visit.headers.get("accept-encoding", ""):
        return Sent(200, asset.compressed, asset.media_type, {**headers, "Content-Encoding": "gzip"})
    return Sent(200, asset.body, asset.media_type, headers)
