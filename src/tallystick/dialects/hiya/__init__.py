"""hiya's statistics of a space, usage records, and the resources that its scripts look up beside them."""

from tallystick.dialect import Dialect
from tallystick.dialects.hiya import records, resources, statistics
from tallystick.dialects.hiya.refusals import STATUS, Refusal, not_found, problem

__all__ = ["DIALECT", "STATUS", "Refusal", "not_found", "problem", "records", "resources", "statistics"]

# Its calls ask about what earlier answers name, so they have handlers of their own and are no reports.
DIALECT = Dialect(
    "hiya",
    paths=tuple(f"{prefix}/{part}" for prefix in ("", "/v1") for part in ("auth", "orgs", "spaces", "user")),
    problem=problem,
    statuses=STATUS,
    refusal=Refusal,
)
