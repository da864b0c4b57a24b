"""How many replicas Ray Serve shall run: enough for all sessions, and one more where their audio comes too late.

Arithmetic alone: Ray brings the numbers, and applies the delays and bounds of the configuration to the answer.
"""

from typing import Any

LATE_SHARE = "late_share"  # what each replica reports: see `Metrics.late_share`


class ReplicasWanted:
    """A Ray Serve autoscaling policy. Ray makes one and calls it with its `AutoscalingContext` again and again."""

    def __init__(self, late_share: float) -> None:
        self._late_share = late_share

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """(replicas, nothing to remember)."""
        wanted = context.total_num_requests / context.config.get_target_ongoing_requests()
        late = (context.aggregated_metrics or {}).get(LATE_SHARE, {})
        if max(late.values(), default=0.0) > self._late_share:
            wanted = max(wanted, context.current_num_replicas + 1)
        return wanted, {}
