"""Who is asked for: from a tenant's user to the version that answers, which stays the same until the answer ends."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import Counter
from dataclasses import dataclass

from perfit.durable.identity import digest_of
from perfit.errors import StoreError, UnknownUserError
from perfit.notebook.database import Notebook
from perfit.notebook.versions import Versions
from perfit.owners import Owners
from perfit.personalizer import PerFit
from perfit.pseudo_users import BASE, COLLECTIVE
from perfit.serving.version import ShiftVersion
from perfit.store.collective_file import Collective
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts
from perfit.strength import strength_of

_GONE = "this user has no personal shift here; personalize them first, or ask for 'base' or 'collective'"


@dataclass
class _Held:
    """A shift in use, whose it is, and by how many."""

    stored: StoredShift
    owner: str
    holders: int


class People:
    """The users of a run as engines know them: versions, and the shifts behind those in flight.

    Answers ``serving.engine.Shifts``: what a version names is there as long as somebody holds it, whatever is trained,
    rolled back or erased in the store meanwhile.

    Attributes:
        shared: Both shared shifts.
        base: Digest of the base's identity.

    Args:
        perfit: The run.
        notebook: Versions and the secret that hides users' ids.

    Raises:
        StoreError: The run has no collective shift.
    """

    def __init__(self, perfit: PerFit, notebook: Notebook):
        shared = perfit.owners.shared
        if shared is None:
            raise StoreError("there is no collective shift to serve; train the run to its end first")
        self.perfit, self.shared = perfit, shared
        self._versions, self._notebook = Versions(notebook), notebook
        self._collective = hashlib.sha256(shared.file).hexdigest()
        self.base = digest_of(perfit.identity.as_dict())
        self._held: dict[str, _Held] = {}
        self._cut_off: Counter[str] = Counter()  # holders of what was dropped, who have still to let go
        self._erasures = 0
        self._lock = threading.Lock()

    def hidden(self, tenant: str, mark: str) -> str:
        """The keyed digest by which engines know a tenant's user.

        Args:
            tenant: The tenant's name.
            mark: ``Notebook.mark`` of the user.
        """
        text = f"{mark}{tenant}".encode(errors="surrogatepass")
        return hmac.new(self._notebook.key, text, hashlib.sha256).hexdigest()

    def hold(self, tenant: str, user: str) -> ShiftVersion | None:
        """The version that answers for a user now, kept until ``let_go``; None is the untouched base.

        Raises:
            UnknownUserError: The user has no shift.
            StoreError: The shift is damaged.
        """
        if user == BASE:
            return None
        if user == COLLECTIVE:
            return self._version(tenant, "", 0, None, 1.0)
        hidden = self.hidden(tenant, self._notebook.mark(user))
        while True:
            erasures = self._erasures
            stored = self.stored(user)
            digest = shift_digest(stored.tensors)
            number = self._versions.numbered(user, digest)
            version = self._version(tenant, hidden, number, digest, strength_of(stored.meta))
            with self._lock:
                # Whoever was erased between the look and this line must not be kept alive by it: look again.
                if erasures == self._erasures:
                    self._held.setdefault(version.digest, _Held(stored, version.user, 0)).holders += 1
                    return version

    def let_go(self, version: ShiftVersion | None) -> None:
        """Say that an answer is over; of a version that nobody holds nothing is kept."""
        if version is None:
            return
        with self._lock:
            if self._cut_off[version.digest]:  # another of this digest may be there, which is held by others
                self._cut_off[version.digest] -= 1
                self._cut_off += Counter()  # keeps what is above zero
            elif (held := self._held.get(version.digest)) is not None:
                held.holders -= 1
                if not held.holders:
                    del self._held[version.digest]

    def stored(self, user: str) -> StoredShift:
        """The live shift of a user.

        Raises:
            UnknownUserError: There is none; the message names nobody.
        """
        try:
            return self.perfit.owners.personal.stored(user)
        except UnknownUserError:
            raise UnknownUserError(_GONE) from None

    def alone(self, version: ShiftVersion | None) -> tuple[PerFit, str]:
        """A ``PerFit`` that knows nobody but the owner of a version in flight, and the name to ask it by."""
        own = PersonalShifts()
        name = BASE if version is None else COLLECTIVE
        if version is not None and version.personal is not None:
            name = version.user
            own.put_stored([(name, self.personal(version))])
        one = PerFit(self.perfit.backbone, self.perfit.task, self.perfit.config, self.perfit.identity)
        one.owners = Owners(self.shared, own)
        return one, name

    # serving.engine.Shifts

    def collective(self, digest: str) -> Collective:
        """Both shared shifts.

        Raises:
            StoreError: They are others.
        """
        if digest != self._collective:
            raise StoreError("a version names another collective shift than the one that is served; ask again")
        return self.shared

    def personal(self, version: ShiftVersion) -> StoredShift:
        """The shift of a version in flight.

        Raises:
            UnknownUserError: Nobody holds it any more.
        """
        with self._lock:
            held = self._held.get(version.digest)
        if held is None:
            raise UnknownUserError(_GONE)
        return held.stored

    def drop(self, tenant: str, mark: str) -> None:
        """Forget the shifts of a user, by ``Notebook.mark``, although requests may be in flight: the user is erased."""
        hidden = self.hidden(tenant, mark)
        with self._lock:
            self._erasures += 1
            for digest in [digest for digest, held in self._held.items() if held.owner == hidden]:
                self._cut_off[digest] += self._held.pop(digest).holders

    def _version(self, tenant: str, user: str, number: int, personal: str | None, strength: float) -> ShiftVersion:
        return ShiftVersion(
            tenant, user, number, personal, self._collective, self.base, strength, self.perfit.config.positions
        )


class Lease:
    """A version held for one answer, or not yet; ended once, whatever became of the answer."""

    def __init__(self, people: People):
        self._people = people
        self.version: ShiftVersion | None = None

    def take(self, tenant: str, user: str) -> ShiftVersion | None:
        """See ``People.hold``."""
        self.version = self._people.hold(tenant, user)
        return self.version

    def check(self) -> None:
        """See that the version's user was not erased meanwhile.

        Raises:
            UnknownUserError: The user was.
        """
        if self.version is not None and self.version.personal is not None:
            self._people.personal(self.version)

    def end(self) -> None:
        """Let go."""
        version, self.version = self.version, None
        self._people.let_go(version)
