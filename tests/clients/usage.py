"""Asks for usage with the transports of the vendor's Python client, and says as JSON what came of each question."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

# The test installs it beside, not into what everything else runs with.
from speechmatics.batch import (  # type: ignore[import-not-found]  # only that venv has it
    AuthenticationError,
    ConnectionConfig,
    StaticKeyAuth,
    TransportError,
)
from speechmatics.batch._transport import Transport  # type: ignore[import-not-found]  # only that venv has it


async def ask(url: str, key: str, params: dict[str, Any]) -> Any:
    """Ask once; an error is told by its class and text."""
    transport = Transport(f"{url}/v2", ConnectionConfig(), StaticKeyAuth(key))
    try:
        return await transport.get("/usage", params)
    except (AuthenticationError, TransportError) as error:
        return {"raised": type(error).__name__, "said": str(error)}
    finally:
        await transport.close()


async def main() -> None:
    """Ask what stdin says."""
    url, questions = sys.argv[1], json.load(sys.stdin)
    print(json.dumps([await ask(url, key, params) for key, params in questions]))


asyncio.run(main())
