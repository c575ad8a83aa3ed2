"""GET /llms.txt: what a language model has to know to use this service, on one page."""

from __future__ import annotations

from tallystick.api.description import describe
from tallystick.api.http import Call
from tallystick.query import Reply

GUIDE = """# tallystick

> Exact usage metering for AI and media APIs. Workers report each piece of work as an event; reports give back exact
> sums. An event is counted once however often it is sent, and is on disk before it is acknowledged.

- Every parameter, body and reply: [OpenAPI 3.1](/openapi.json).
- Send `Authorization: Bearer KEY`. A key has scopes: `ingest`, `report`, `limits`, `admin`. A key of an account sees
  that account only; the operator's key sees all and says which account it means.
- Errors are `application/problem+json` with a `code` for programs, and `errors` that name the field and what to do.
- Quantities are decimals written as text, such as "930.5". Do not make floats of them.

## Calls

- `POST /v1/events`: one CloudEvent, a list of them, or lines of JSON (`application/x-ndjson`). Needs `id`, `source` and
  `type`; with an operator's key also `account`. Example body:
  `{"id": "job-1", "source": "asr-1", "type": "audio.processed", "account": "acme", "time": "2026-03-03T10:00:00Z",
  "data": {"duration": 930.5, "type": "transcription", "language": "en"}}`.
  The reply counts `accepted`, `duplicate`, `conflict` and `rejected`, with a receipt for each event that was refused.
  After an error or no answer, send the same events again: those that were kept are duplicates and change nothing.
- `GET /v1/receipts`: the last duplicates, conflicts and rejections of what the key's account sent, with their reasons,
  as far as the process that was asked remembers them.
- `GET /v1/usage?meter=audio&from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z&window=day&group_by=language`: sums per
  bucket and group; `filter[language]=en` narrows, `tz=Europe/Prague` moves the days, `window=total` is one sum.
- `GET /v1/key`: what the key that asks is, and which accounts it reads.
- `GET /v1/usage/meters`: the meters with their units and labels.
- `GET /v2/usage?since=2026-03-01&until=2026-03-31&account=acme`: the same usage in the shape of Speechmatics' report.
- `GET /usage?account=acme`: hours and streams by model, in vblaze's shape; so is `/usagefull` with its kin.
- `GET /api/billing/capacities?account=acme`: what may still be processed by label set, in phonexia's shape;
  `GET /api/billing/consumptions?account=acme`: what was processed ever.
- `GET /orgs/{organisation}/usage?year=2026&month=3`: credits, images and datasets in visii's shape; it takes
  `Authorization: token KEY`, and answers 404 to anything else.
- `GET /spaces/{owner}/{space}/stats`: what is in a space now, in hiya's shape;
  `GET /orgs/{organisation}/records/{kind}?page=1`: what was performed, whatever was deleted since.
- `PUT /v1/accounts/{account}`: make or change an account, `{"kind": "org"}`. `GET /v1/accounts` lists them.
- `POST /v1/keys`: make a key, `{"account": "acme", "scopes": ["ingest", "report"]}`; its text is in the reply, once.
  `GET /v1/keys` lists keys, `DELETE /v1/keys/{id}` revokes one.
- `PUT /v1/meters/{name}`: define what is counted, `{"events": ["call.ended"], "quantity": "$.data.seconds"}`; with
  `"from": "beginning"` kept events too. `GET /v1/meters` lists meters. `PUT /v1/rates/{table}`: multipliers by type.
- `GET /v1/accounts/{account}/resources`: what exists now, by space, kind and id.
- `PUT /v1/limits/{id}`: bound a meter per period, `{"account": "acme", "meter": "audio", "period": "month", "amount":
  "36000"}`; `POST /v1/limits/{id}/grants` adds to it for a time. `GET /v1/limits?account=acme` says what is used and
  what remains.
- `POST /v1/holds`: ask before the work, `{"id": "job-1", "account": "acme", "meter": "audio", "quantity": "60"}`: 201,
  or 402 or 429 with what is in the way. Then `POST /v1/holds/{id}/settle` with the event of what was done, or
  `POST /v1/holds/{id}/release`; `POST /v1/holds/{id}/renew` before it expires. `GET /v1/holds?account=acme` lists
  holds.
- `POST /v1/verify`: replay the whole log and compare every sum with it.

## Watching

- `GET /livez`, `GET /readyz`: whether the process lives, and whether it takes requests. `GET /metrics`: OpenMetrics.
"""


@describe(replies={200: {"text/plain": {"type": "string"}}})
async def get(call: Call) -> Reply:
    """Say in a page of text what a language model has to know to use this service."""
    return Reply(200, GUIDE.encode(), "text/plain; charset=utf-8")
