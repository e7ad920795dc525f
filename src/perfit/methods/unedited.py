"""The shift that changes nothing: generation without an edit goes the same way as with one."""

from __future__ import annotations

from perfit.backbone.model import Backbone
from perfit.plan import TwoStageShift
from perfit.positions import Positions
from perfit.shift import ShiftBank

UNEDITED_AT = Positions.parse("l1")


def unedited(backbone: Backbone) -> TwoStageShift:
    """Two banks with the identity alone."""
    empty = ShiftBank.empty(0, 1, 1, backbone.hidden_size, device=backbone.device)
    return TwoStageShift((0,), empty, empty)
