"""What a page needs beside itself: style, scripts and pictures, read once, named by what is in them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath

from tallystick.dashboard.visit import ROOT, Sent, Visit

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
STYLES = ("vendor/pico.min.css", "dashboard.css")
"""What `styles.css` is made of. Pico names pictures that the policy forbids, and ours take their place: whoever draws
the page before all is there must have neither or both."""
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
    paths = (path for path in sorted(FOLDER.rglob("*")) if path.suffix in MEDIA_TYPES)
    bodies = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
    bodies["styles.css"] = b"\n".join(bodies.pop(name) for name in STYLES)
    return {name: _asset(name, body) for name, body in bodies.items()}


def _asset(name: str, body: bytes) -> Asset:
    media_type = MEDIA_TYPES[PurePosixPath(name).suffix]
    return Asset(body, gzip.compress(body, mtime=0), media_type, sha256(body).hexdigest()[:16])


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
