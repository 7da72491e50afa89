"""What is remembered of a submission over the tries of a task instance, so that a retry does not pay again.

Airflow 3.3's task state store keeps it: the intent before the createTask is sent, the id right after the answer.
XCom would not do, it is wiped at the start of every try. Older versions have no such store.
"""

from __future__ import annotations

import enum
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from seedance_provider.exceptions import SeedanceSubmitUncertainError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "seedance_submission"
_READABLE: dict[str, tuple[type, ...]] = {
    "fingerprint": (str,),
    "max_tries": (int,),
    "try_number": (int,),
    "seedance_task_id": (str, type(None)),
    "submitted_at": (int, float, type(None)),
    "ended": (bool,),
}


class Verdict(enum.Enum):
    """What a try does about what an earlier one left behind."""

    SUBMIT = "submit"
    CONTINUE = "continue"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Submission:
    """One createTask, wanted or done.

    :param fingerprint: Of the request, from :func:`fingerprint`.
    :param max_tries: Of the task instance when it was wanted; a clear changes it, a retry does not.
    :param try_number: The try that wanted it.
    :param seedance_task_id: The answer; None as long as the fate of the request is unknown.
    :param submitted_at: When the answer came, epoch seconds.
    :param ended: True once the task instance has done all it wanted with the task: a clear then makes a new one.
    """

    fingerprint: str
    max_tries: int
    try_number: int
    seedance_task_id: str | None = None
    submitted_at: float | None = None
    ended: bool = False


def fingerprint(model: str, inputs: Mapping[str, Any], callback_url: str | None) -> str:
    """Tell one wanted video from another: a digest of the request as the DAG author wrote it."""
    whole = [model, inputs, callback_url]
    # Names that are no text cannot be sorted. What is no JSON at all is refused when it is checked, which comes later.
    request = _json(whole, sort_keys=True) or _json(whole, skipkeys=True) or repr((model, callback_url))
    return hashlib.sha256(request.encode()).hexdigest()


def _json(value: Any, **options: bool) -> str:
    try:
        return json.dumps(value, default=str, **options)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError):
        return ""


def judge(saved: Submission | None, wanted: Submission) -> tuple[Verdict, str]:
    """Decide whether a try submits, continues with a task, or faces a request of unknown fate.

    :param saved: What an earlier try left behind, if anything.
    :param wanted: What this try wants.
    :return: The verdict and, for the log, the reason; an empty reason needs no line.
    """
    if saved is None:
        return Verdict.SUBMIT, ""
    former = f"Task {saved.seedance_task_id}" if saved.seedance_task_id else "A createTask of unknown fate"
    cleared = wanted.max_tries != saved.max_tries
    if cleared and (saved.ended or saved.seedance_task_id is None):
        return Verdict.SUBMIT, f"{former} belongs to a run before this task was cleared; a clear makes a new video"
    if wanted.fingerprint != saved.fingerprint:
        still = "" if saved.ended else "; the former goes on and is billed"
        return Verdict.SUBMIT, f"{former} was made from other inputs, so this is a new video{still}"
    if saved.seedance_task_id is None:
        where = "look for 'Created task' in its log"
        return (
            Verdict.UNCERTAIN,
            f"Try {saved.try_number} was about to send createTask and never reported its answer ({where})",
        )
    if cleared:
        return Verdict.CONTINUE, f"{former} had not ended when this task was cleared: it is kept, nothing is bought"
    return (
        Verdict.CONTINUE,
        f"Continuing with task {saved.seedance_task_id} of try {saved.try_number}; nothing is bought",
    )


class SubmissionStore:
    """The submission of one task instance, in Airflow's task state store.

    An error of the store is not swallowed before the request is sent: a state that cannot be read is not no state.

    :param context: The task's context.
    :param durable: False to remember nothing.
    """

    def __init__(self, context: Context, *, durable: bool = True) -> None:
        self._store: Any = context.get("task_state_store") if durable else None

    @property
    def is_available(self) -> bool:
        """Whether anything is remembered: on Airflow 3.3 and later, unless switched off."""
        return self._store is not None

    def load(self) -> Submission | None:
        """Return what an earlier try left behind.

        :raises SeedanceSubmitUncertainError: if it is there but cannot be read.
        """
        state = self._store.get(STATE_KEY) if self._store is not None else None
        if state is None:
            return None
        try:
            saved = Submission(**state)
            for name, types in _READABLE.items():
                value = getattr(saved, name)
                if not isinstance(value, types) or value == "":
                    raise TypeError(f"{name} is {value!r:.50}")  # noqa: TRY301 - one text for all that cannot be read
        except TypeError as error:
            raise SeedanceSubmitUncertainError(
                f"The task state {STATE_KEY!r} cannot be read ({state!r:.200}), so a video may have been bought. Look "
                "at the account's task list on the vendor's site, then delete that state and clear this task"
            ) from error
        return saved

    def save_intent(self, wanted: Submission) -> None:
        """Remember that a createTask is about to be sent."""
        if self._store is not None:
            self._store.set(STATE_KEY, asdict(wanted))

    def save_task(
        self, wanted: Submission, seedance_task_id: str, submitted_at: float, *, ended: bool = False
    ) -> Submission:
        """Remember the answer. Where that fails this try goes on with the task, which is paid for.

        :return: The submission with its task.
        """
        done = replace(wanted, seedance_task_id=seedance_task_id, submitted_at=submitted_at, ended=ended)
        self._save_or_log(done)
        return done

    def adopt(self, saved: Submission, wanted: Submission) -> Submission:
        """Make an earlier run's submission this run's, after a clear that keeps it."""
        if saved.max_tries == wanted.max_tries:
            return saved
        adopted = replace(saved, max_tries=wanted.max_tries)
        self._save_or_log(adopted)
        return adopted

    def save_end(self, seedance_task_id: str) -> None:
        """Remember that the outcome of a task is known: a clear from now on makes a new one."""
        try:
            saved = self.load()
        except Exception:
            log.exception("The end of task %s could not be stored: a clear would return it again", seedance_task_id)
            return
        if saved is not None and saved.seedance_task_id == seedance_task_id and not saved.ended:
            self._save_or_log(replace(saved, ended=True))

    def _save_or_log(self, submission: Submission) -> None:
        """Save what must not fail this try: the task is paid for."""
        try:
            if self._store is not None:
                self._store.set(STATE_KEY, asdict(submission))
        except Exception:
            log.exception(
                "Task %s could not be stored: this try goes on with it, a retry would not know it",
                submission.seedance_task_id,
            )

    def forget(self) -> None:
        """Remember that no task came of it. Where that fails, a retry takes the fate of the request for unknown."""
        try:
            if self._store is not None:
                self._store.delete(STATE_KEY)
        except Exception:
            log.exception("The task state %r could not be deleted", STATE_KEY)
