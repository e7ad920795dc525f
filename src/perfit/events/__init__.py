"""What happens, as typed events, and who listens to them."""

from perfit.events.file import EventFile
from perfit.events.kinds import (
    Answered,
    ComparisonBegun,
    Event,
    Finished,
    MemoryUsed,
    PhaseEnded,
    Planned,
    Prepared,
    Resumed,
    Skipped,
    Stage1Found,
    StageBegun,
    Stepped,
    TrialBegun,
    TrialEnded,
    Warned,
    as_dict,
)
from perfit.events.listener import Listener, nobody, tee
from perfit.events.notices import print_notices

__all__ = [
    "Answered",
    "ComparisonBegun",
    "Event",
    "EventFile",
    "Finished",
    "Listener",
    "MemoryUsed",
    "PhaseEnded",
    "Planned",
    "Prepared",
    "Resumed",
    "Skipped",
    "Stage1Found",
    "StageBegun",
    "Stepped",
    "TrialBegun",
    "TrialEnded",
    "Warned",
    "as_dict",
    "nobody",
    "print_notices",
    "tee",
]
