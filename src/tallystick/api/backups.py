"""POST /v1/backup: the whole ledger as one file, made and sent while the server goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import IO

from tallystick.api import auth, http
from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.errors import Code
from tallystick.query import Reply

MEDIA_TYPE = "application/vnd.sqlite3"
PART_BYTES = 1 << 20


@describe(replies={200: {MEDIA_TYPE: {}}}, codes=(Code.NOT_FOUND, Code.DISK_FULL, Code.UNAVAILABLE, Code.HTTP_VERSION))
async def post(call: Call) -> Reply:
    """Send a copy of the ledger as it is at this moment; `tallystick restore` opens and verifies it.

    It has everything, whoever's it is, but no key: of keys only digests are kept.
    """
    auth.require_operator(call.caller)
    http.refuse_unframed(call)
    return Reply(200, b"", MEDIA_TYPE, {}, _parts(await call.app.ledger.backup()))


async def _parts(copy: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with copy:
        while part := await asyncio.to_thread(copy.read, PART_BYTES):
            yield part
