"""hiya's statistics of a space, usage records, and the resources that its scripts look up beside them."""

from tallystick.dialects.hiya import records, resources, statistics
from tallystick.dialects.hiya.refusals import STATUS, Refusal, not_found, problem

__all__ = ["STATUS", "Refusal", "not_found", "problem", "records", "resources", "statistics"]
