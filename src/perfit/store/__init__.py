"""Users' shifts at rest."""

from perfit.store.payload import StoredShift
from perfit.store.shifts import ShiftStore

__all__ = ["ShiftStore", "StoredShift"]
