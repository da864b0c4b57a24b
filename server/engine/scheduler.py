"""Who is served in the next step: earliest deadline first, and whoever has slack gives way.

A deadline is the moment from which on somebody notices: a listener runs dry, a first sound is late, speech lies
unread. The slack of a job is the time until then. A step serves all its jobs in one batch, and every further one makes
it longer for all of them; so as long as anybody's slack is short, those with plenty wait. When nobody's is, all are
served: idle time buys slack.

Deadlines do not move while a job waits, so the longer it waits the further ahead it comes: nobody starves, and too much
work makes all late by about the same. That it never comes to that is the business of admission.
Earliest deadline first: Liu and Layland 1973; slack of what is playing: VoxServe, arXiv 2602.00269. Knows nothing about
what the work is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class Job(Generic[Owner]):
    """What one owner needs next."""

    owner: Owner
    deadline_s: float
    tokens: int = 1
    """How much of a step it takes."""


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Pure: the same jobs at the same time give the same choice."""

    short_slack_s: float = 0.15
    """Slack below this makes others wait."""
    step_tokens: int = 128
    """The most tokens of one step: what bounds how long an urgent job waits for a step that has begun."""

    def choose(self, jobs: Sequence[Job[Owner]], now_s: float) -> list[Owner]:
        """The owners to serve now, the most urgent first; at least one if there is any job."""
        ordered = sorted(jobs, key=lambda job: job.deadline_s)  # stable: of equals, who came first
        urgent = [job for job in ordered if job.deadline_s - now_s < self.short_slack_s]
        chosen: list[Owner] = []
        left = self.step_tokens
        for job in urgent or ordered:
            if chosen and job.tokens > left:
                break
            chosen.append(job.owner)
            left -= job.tokens
        return chosen
