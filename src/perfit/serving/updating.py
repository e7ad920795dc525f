"""One training that a user asked for: trained beside the store, judged by what was held out, then put live or kept back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from perfit.data.schema import User
from perfit.edits.shift import from_stored
from perfit.errors import PerfitError, StoreError
from perfit.inference.log_probs import answer_log_probs
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import FAILED, KEPT_BACK, LIVE, Job, Jobs
from perfit.notebook.versions import Versions
from perfit.owners import Owners
from perfit.personalizer import PerFit
from perfit.pseudo_users import COLLECTIVE
from perfit.run import RunDirectory
from perfit.serving import publishing
from perfit.serving.faults import refused
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts
from perfit.training.examples import RowMaker

_LOCK_SECONDS = 600.0


class Updates:
    """Trains users of a run.

    Args:
        perfit: The run; its store is read and written apart from it, so that nothing is live before it was judged.
        run: Its folder.
        notebook: Histories, jobs and versions.
        pause: Called now and then in a training; it may sleep.
    """

    def __init__(self, perfit: PerFit, run: RunDirectory, notebook: Notebook, pause: Callable[[], None]):
        self._perfit, self._run, self._pause = perfit, run, pause
        self._items, self._jobs, self._versions = Items(notebook), Jobs(notebook), Versions(notebook)

    def run_one(self) -> bool:
        """Take a job and do it; False where none waits. Whatever goes wrong is what became of the job."""
        job = self._jobs.take()
        if job is None:
            return False
        try:
            state, result = self._update(job)
        except StoreError as error:  # whose words name places of the server
            state, result = FAILED, {"problem": str(refused(error))}
        except PerfitError as error:
            state, result = FAILED, {"problem": str(error)}
        except Exception as error:  # what it says may hold a user's text
            state, result = FAILED, {"problem": f"a fault of the server ({type(error).__name__})"}
        self._jobs.end(job.id, state, result)
        return True

    def _update(self, job: Job) -> tuple[str, dict[str, Any]]:
        began = time.perf_counter()
        learnable = self._items.of(job.user)
        if not learnable.training.history:
            return FAILED, {"problem": "there is nothing to learn from; send a history or feedback first"}
        before = publishing.live_of(self._run, job.user)
        # Feedback alone is a few items: they add to what was learnt elsewhere, and do not stand in for it.
        alone = self._items.of_feedback_alone(job.user, self._perfit.task)
        start = publishing.from_outside(self._versions, job.user, before) if alone else None
        stored, steps = self._trained(learnable.training, start)
        note: dict[str, Any] = {
            "items": len(learnable.training.history),
            "held_out": len(learnable.held_out.history),
            "steps": steps,
        }
        if start is not None:
            note["start"] = "the user's own shift from outside serving"
        worse = False
        if learnable.held_out.history:
            old, new = self._loss(before, learnable.held_out), self._loss(stored, learnable.held_out)
            note |= {"loss_before": round(old, 4), "loss_after": round(new, 4)}
            worse = not new <= old
        else:
            note["unchecked"] = "fewer than five items, none held out"
        note["seconds"] = round(time.perf_counter() - began, 1)
        number = publishing.publish(
            self._run,
            self._versions,
            publishing.Publication(job.user, stored, note, live=not worse),
            seconds=_LOCK_SECONDS,
            still_wanted=lambda: self._jobs.runs(job.id),
        )
        if number is None:
            return FAILED, {"problem": "the user was erased meanwhile"}
        result = {"version": number, **note}
        if worse:
            result["problem"] = (
                "worse on the held-out items than what is live, which stays; a rollback to this version puts it live all the "
                "same"
            )
        return KEPT_BACK if worse else LIVE, result

    def _trained(self, user: User, start: StoredShift | None) -> tuple[StoredShift, int]:
        """The shift that ``PerFit.personalize`` gives, as a store would keep it, and how many steps it took.

        Args:
            user: Id and items.
            start: Where training begins; None is the shared second shift, as ``PerFit.personalize`` does.

        Raises:
            PerfitError: The user cannot be trained.
        """
        alone = self._alone(None)
        if start is not None:
            first, _ = self._shared.shifts
            alone.owners = Owners(Collective.of_shifts((first, from_stored(start.tensors))))
        trained = alone.personalize(user, listener=lambda event: self._pause())
        if trained.problem is not None:
            raise PerfitError(trained.problem)
        return alone.owners.personal.stored(user.id), trained.steps

    @property
    def _shared(self) -> Collective:
        """Both shared shifts.

        Raises:
            StoreError: The run has none.
        """
        if self._perfit.owners.shared is None:
            raise StoreError("there is no collective shift to start from; train the run to its end first")
        return self._perfit.owners.shared

    def _loss(self, stored: StoredShift | None, held_out: User) -> float:
        """Mean negative log-likelihood of the held-out answers, in nats an item; without a shift, of the collective."""
        alone = self._alone(None if stored is None else (held_out.id, stored))
        owner = COLLECTIVE if stored is None else held_out.id
        rows = RowMaker(alone.task, alone.backbone.tokenizer, alone.config).history_rows(held_out)
        edited, total = alone.edited(), 0.0
        for places, shift, slots in edited.groups([owner] * len(rows)):
            mine = [rows[place] for place in places]
            total -= sum(
                answer_log_probs(
                    alone.backbone,
                    [row.prompt_ids for row in mine],
                    [row.answer_ids for row in mine],
                    slots,
                    shift,
                    edited.positions,
                    done=lambda rows: self._pause(),
                )
            )
        loss = total / len(rows)
        return loss if math.isfinite(loss) else math.inf

    def _alone(self, one: tuple[str, StoredShift] | None) -> PerFit:
        """A ``PerFit`` of the run that knows at most one user and keeps nothing on disk."""
        alone = PerFit(self._perfit.backbone, self._perfit.task, self._perfit.config, self._perfit.identity)
        own = PersonalShifts()
        if one is not None:
            own.put_stored([one])
        alone.owners = Owners(self._shared, own)
        return alone
