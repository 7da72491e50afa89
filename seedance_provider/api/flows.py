"""What to do, step by step, to submit a task, to poll one and to wait for one: written once for sync and async.

A flow has no clock and no randomness: it is given both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from seedance_provider import defaults
from seedance_provider.api import calls, catalog, errors, schedule
from seedance_provider.api.errors import CHECK_MANUALLY
from seedance_provider.api.messages import Put, RenewKey, Send, Sleep
from seedance_provider.api.records import TaskRecord, TaskStatus, parse_task, read_status, seconds_since
from seedance_provider.config import SubmitPolicy
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceError,
    SeedanceOutputMissingError,
    SeedanceServerError,
    SeedanceSubmitUncertainError,
    SeedanceTaskFailedError,
    SeedanceTaskNotFoundError,
    SeedanceTaskTimeoutError,
    SeedanceTransportError,
)

if TYPE_CHECKING:
    from seedance_provider.api.messages import AnyLogger, Call, Flow, Media, Reply, UploadTicket

T = TypeVar("T")
Clock = Callable[[], float]
"""Gives the time, epoch seconds."""
Jitter = Callable[[], float]
"""Gives a random number from 0 to 1."""


def collect_with(seedance_task_id: str, seedance_conn_id: str = "") -> str:
    """The call that collects a video whose task instance is gone.

    :param seedance_task_id: The video's id.
    :param seedance_conn_id: The connection whose account has it, where that is known.
    """
    is_default = seedance_conn_id in ("", defaults.DEFAULT_CONN_ID)
    connection = "" if is_default else f", seedance_conn_id={seedance_conn_id!r}"
    return f"SeedanceTaskSensor(seedance_task_id={seedance_task_id!r}{connection})"


def keeps_running(seedance_task_id: str) -> str:
    """What to tell a user who stops a waiting task instance."""
    return f"The video cannot be cancelled and will be billed; collect it with {collect_with(seedance_task_id)}"


CLEAR_TO_WAIT = "Clear this task to keep waiting, free"


def submit(
    call: Call[str],
    submit_policy: SubmitPolicy,
    log: AnyLogger,
    *,
    jitter: Jitter,
    unknown: int = 0,
    remember: Callable[[int], None] = lambda unknown: None,
) -> Flow[str]:
    """Send a createTask and return the taskId. Each request that reaches the API may be charged.

    :param call: From :func:`~seedance_provider.api.calls.create_task`.
    :param submit_policy: Whether a createTask of unknown outcome is sent again.
    :param log: Told of each resend.
    :param jitter: Spreads the pauses.
    :param unknown: How many createTasks of unknown outcome were sent for this video before.
    :param remember: Told before each createTask how many there will be if no answer comes, and after a certain refusal
        how many there are. What it raises before a createTask keeps it from being sent.
    :return: The taskId.
    :raises SeedanceSubmitUncertainError: if a task may exist whose id is unknown.
    :raises SeedanceError: any other row of the error table.
    """
    for attempt in range(1, defaults.ATTEMPTS + 1):
        if unknown >= defaults.MAX_UNKNOWN_OUTCOMES:
            raise SeedanceSubmitUncertainError(
                f"The outcome of {unknown} createTasks for this video is unknown, so no further one is sent. "
                f"{CHECK_MANUALLY}"
            )
        remember(unknown + 1)
        try:
            return call.read((yield Send(call.request)))
        except (SeedanceServerError, SeedanceTransportError) as error:
            sent = error.charged != "no"
            unknown += sent
            if not sent:
                remember(unknown)
            elif submit_policy is SubmitPolicy.SAFE:
                raise SeedanceSubmitUncertainError(
                    f"A video may have been charged: createTask got no usable answer ({error}). "
                    f"submit_policy='safe' does not send it again. {CHECK_MANUALLY}",
                    status_code=error.status_code,
                    message=error.message,
                ) from error
            if attempt == defaults.ATTEMPTS or unknown >= defaults.MAX_UNKNOWN_OUTCOMES:
                raise _unanswered(error, attempt, unknown) from error
            pause = schedule.backoff(attempt, jitter())
            _log_resend(log, error, sent, attempt, pause)
        except SeedanceSubmitUncertainError:
            raise
        except SeedanceError as refusal:
            remember(unknown)
            if not unknown:
                raise
            raise refusal.retold(
                f"{refusal.message}. The outcome of {unknown} earlier createTask(s) for this video is unknown. "
                f"{CHECK_MANUALLY}",
                charged="unknown",
            ) from refusal
        yield Sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _unanswered(error: SeedanceError, attempts: int, unknown: int) -> SeedanceError:
    """The last error of a createTask that got no answer, with what all of its attempts mean for the bill."""
    if not unknown:
        return error.retold(
            f"{error}. No request was sent, in {attempts} attempts, so nothing was charged: clear this task when that "
            "is repaired"
        )
    details = {"request_sent": True} if isinstance(error, SeedanceTransportError) else {}
    return error.retold(
        f"A video may have been charged: createTask got no usable answer ({error}). The outcome of {unknown} "
        f"createTask(s) for this video is unknown. {CHECK_MANUALLY}",
        charged="unknown",
        **details,
    )


def _log_resend(log: AnyLogger, error: SeedanceError, sent: bool, attempt: int, pause: float) -> None:
    if not sent:
        log.warning("%s. No request was sent; attempt %d of %d in %.1f s", error, attempt + 1, defaults.ATTEMPTS, pause)
        return
    log.warning(
        "createTask got no usable answer; sending it again in %.1f s (attempt %d of %d), as the vendor advises: it may "
        "be charged twice, since its outcome is unknown. submit_policy='safe' would stop here. The answer: %s",
        pause,
        attempt + 1,
        defaults.ATTEMPTS,
        error,
    )


def upload(call: Call[UploadTicket], media: Media, log: AnyLogger, *, jitter: Jitter) -> Flow[str]:
    """Upload a file. Free; for the synchronous transport only.

    :param call: From :func:`~seedance_provider.api.calls.request_upload`.
    :param media: The file.
    :param log: Told of each failed attempt.
    :param jitter: Spreads the pauses.
    :return: The file's public URL.
    :raises SeedanceError: any row of the error table.
    """

    def attempt() -> Flow[str]:
        ticket = yield from _exchange(call.read, Send(call.request))
        reply = yield Put(ticket, media)
        if reply.status == 403:
            raise SeedanceServerError(f"The signed URL refused the file ({errors.excerpt(reply)}); it may have expired")
        if not 200 <= reply.status < 300:
            raise errors.error_of(reply)
        return ticket.url

    return _repeated(attempt, log, jitter, defaults.ATTEMPTS)


def get(
    seedance_task_id: str, log: AnyLogger, *, jitter: Jitter, attempts: int = defaults.ATTEMPTS
) -> Flow[TaskRecord]:
    """Read one task's record. Free.

    :param seedance_task_id: The task's id.
    :param log: Told of each failed attempt.
    :param jitter: Spreads the pauses.
    :param attempts: Requests in all. Default 3.
    :return: The record, whatever its status.
    :raises SeedanceError: any row of the error table; carries the id.
    """
    call = calls.get_task(seedance_task_id)
    try:
        record = yield from _repeated(lambda: _exchange(call.read, Send(call.request)), log, jitter, attempts)
    except SeedanceError as error:
        error.seedance_task_id = seedance_task_id
        raise
    return parse_task(record, seedance_task_id=seedance_task_id)


def _repeated(start: Callable[[], Flow[T]], log: AnyLogger, jitter: Jitter, attempts: int) -> Flow[T]:
    for attempt in range(1, attempts + 1):
        try:
            return (yield from start())
        except SeedanceError as error:
            if attempt == attempts or not error.transient:
                raise
            pause = max(schedule.backoff(attempt, jitter()), _asked_to_wait(error))
            log.warning("%s. Attempt %d of %d in %.1f s", error, attempt + 1, attempts, pause)
        yield Sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(slots=True)
class Watch:
    """A wait for one task: what it is given, and what is known so far.

    :param seedance_task_id: The task's id.
    :param poll_interval: Seconds between polls, fixed; None adapts to the task's age and its model's usual time.
    :param started_at: When waiting began, epoch seconds; graces and the schedule count from here.
    :param deadline: When to give up, epoch seconds. One poll is made at the deadline itself.
    :param clock: The time.
    :param jitter: Spreads the polls of many.
    :param log: Told of each change of status and of each poll that failed.
    :param last_status: The status that is already in the log, if any.
    :param alive: Whether the task was seen to exist: no single answer ends the wait for one that was.
    :param urgent: Tells whether somebody waits for the slot that the task's end frees.
    :param pause: Seconds until the next poll is due; set by each poll.
    """

    seedance_task_id: str
    poll_interval: float | None
    started_at: float
    deadline: float
    clock: Clock
    jitter: Jitter
    log: AnyLogger
    last_status: str | None = None
    alive: bool = False
    urgent: Callable[[], bool] = lambda: False
    pause: float = 0.0
    _call: Call[Mapping[str, Any]] = field(init=False, repr=False)
    _send: Send = field(init=False, repr=False)
    _usual_seconds: float | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)
    _problem: SeedanceError | None = field(default=None, init=False)
    _denials: int = field(default=0, init=False)
    _denied_since: float = field(default=0.0, init=False)
    _without_output: tuple[TaskRecord, float] | None = field(default=None, init=False)
    _running: Reply | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._call = calls.get_task(self.seedance_task_id)
        self._send = Send(self._call.request, self.deadline)

    @property
    def in_grace(self) -> bool:
        """Whether the last answer is one that a later poll may take back."""
        return self._denials > 0 or self._without_output is not None

    def next_poll(self) -> float:
        """Seconds until the next poll of a running task."""
        return schedule.poll_delay(
            self.clock() - self.started_at,
            self.poll_interval,
            self.jitter(),
            usual_seconds=self._usual_seconds,
            urgent=self.poll_interval is None and self.urgent(),
        )

    def saw(self, reply: Reply) -> TaskRecord | None:
        """Take an answer.

        :return: The record of a success with output; None if the task still runs, or its output is missing.
        :raises SeedanceTaskFailedError: if it failed, or its output stays missing.
        :raises SeedanceError: if it is not the task's record.
        """
        if reply is self._running:  # a transport gives out the same again while nothing changes
            self._failures = self._denials = 0
            self._problem = None
            self.pause = self.next_poll()
            return None
        members = self._call.read(reply)
        self._running = None
        if self._usual_seconds is None:
            self._usual_seconds = catalog.usual_seconds(members.get("model"))
        self.alive = True
        self._failures = self._denials = 0
        self._problem = None
        status, word = read_status(members)
        if word != self.last_status:
            if not status.is_terminal:  # who waited tells of the end, with what it means
                self._log_status(word, members)
            self.last_status = word
        if not status.is_terminal:
            self._without_output = None
            self._running = reply
            self.pause = self.next_poll()
            return None
        record = parse_task(members, seedance_task_id=self.seedance_task_id)
        if record.failure is not None:
            raise task_failed(record)
        if record.outputs:
            return record
        now = self.clock()
        if self._without_output is None:
            self.log.info("%s, but without a usable URL yet; polling again (task %s)", word, self.seedance_task_id)
        since = now if self._without_output is None else self._without_output[1]
        self._without_output = record, since
        # At the deadline too: it is not a task that still runs.
        if now >= min(since + defaults.OUTPUT_GRACE, self.deadline):
            raise self.timed_out()
        self.pause = defaults.OUTPUT_GRACE_INTERVAL
        return None

    def failed(self, error: SeedanceError) -> None:
        """Take a poll that failed.

        :raises SeedanceError: the error, if it ends the wait.
        """
        now = self.clock()
        error.seedance_task_id = self.seedance_task_id
        if self.alive:
            error.charged = "yes"
            self._count_denial(error, now)
        elif not error.transient and not (
            # A record may not be readable at once after its creation (contract 12.3).
            isinstance(error, SeedanceTaskNotFoundError) and now - self.started_at <= defaults.NOT_FOUND_GRACE
        ):
            raise error
        self._failures += 1
        self._problem = error
        due = self.next_poll()
        if self._denials:
            due = min(due, defaults.DENIAL_SECONDS / (defaults.DENIALS - 1))
        if self._without_output is not None:
            due = defaults.OUTPUT_GRACE_INTERVAL
        self.pause = max(schedule.backoff(self._failures, self.jitter()), _asked_to_wait(error), due)
        self.log.warning(
            "%s. Polling again in %.0f s; the task is unaffected (task %s)",
            str(error).removesuffix(f" (task {self.seedance_task_id})"),
            self.pause,
            self.seedance_task_id,
        )

    def _log_status(self, word: str | None, members: Mapping[str, Any]) -> None:
        # A function of its own: Airflow's logger looks at its caller's frame, which a sleeping wait would then keep.
        age = seconds_since(members.get("createTime"), self.clock())
        if age is None:
            self.log.info(
                "%s, after %.0f s of waiting (task %s)",
                word or "no status",
                max(self.clock() - self.started_at, 0),
                self.seedance_task_id,
            )
        else:
            self.log.info("%s, %.0f s after its creation (task %s)", word or "no status", age, self.seedance_task_id)

    def _count_denial(self, error: SeedanceError, now: float) -> None:
        if not error.denial:
            self._denials = 0
            return
        if not self._denials:
            self._denied_since = now
        self._denials += 1
        if self._denials >= defaults.DENIALS and now - self._denied_since >= defaults.DENIAL_SECONDS:
            raise error

    def timed_out(self) -> SeedanceError:
        """The error of a deadline that passed."""
        if self._without_output is not None:
            record, since = self._without_output
            return _output_missing(record, self.clock() - since)
        state = f"the status is still {self.last_status!r}" if self.last_status else "no answer named a status"
        if self._problem is not None:
            state = f"the last poll failed: {self._problem}"
        return timed_out(self.seedance_task_id, self.deadline - self.started_at, state)


def poll(watch: Watch) -> Flow[TaskRecord | None]:
    """Poll a task once, with all graces that one poll has. Free.

    Several requests are sent where one answer is not enough: a success without output, a task seen alive that is
    denied, and credits that the vendor settles after the end.

    :param watch: The wait; its ``pause`` then says when the next poll is due.
    :return: The record of a success with output; None if the task still runs.
    :raises SeedanceTaskFailedError: if the task failed, or succeeded without output.
    :raises SeedanceTaskTimeoutError: if it still runs at the deadline.
    :raises SeedanceError: for an answer that polling again cannot change; carries the id.
    """
    while True:
        try:
            record = yield from _exchange(watch.saw, watch._send)
        except SeedanceTaskFailedError:
            raise
        except SeedanceError as error:
            watch.failed(error)
        else:
            if record is not None:
                return (yield from _settled(watch, record))
        now = watch.clock()
        if now >= watch.deadline:
            raise watch.timed_out() from watch._problem
        watch.pause = min(watch.pause, watch.deadline - now)
        if not watch.in_grace:
            return None
        yield Sleep(watch.pause)


def wait(watch: Watch, *, poll_first: bool = True) -> Flow[TaskRecord]:
    """Poll a task until it succeeds. Free; a poll that fails never loses the task.

    :param watch: The wait.
    :param poll_first: False to start with a jittered pause: after a first poll elsewhere, or when many waiters start.
    :return: The record of a success with at least one output.
    :raises SeedanceError: what :func:`poll` raises.
    """
    if not poll_first:
        # Some part of the interval, so that those who start together do not poll together. After that a fixed interval
        # is exact.
        first = watch.next_poll() * watch.jitter()
        yield Sleep(max(min(first, watch.deadline - watch.clock()), 0.0))
    while True:
        record = yield from poll(watch)
        if record is not None:
            return record
        yield Sleep(watch.pause)


def _exchange(read: Callable[[Reply], T], send: Send) -> Flow[T]:
    """Send a request that is safe to repeat; a key that was rotated meanwhile is picked up once."""
    try:
        return read((yield send))
    except SeedanceAuthenticationError:
        if not (yield RenewKey()):
            raise
    return read((yield send))


def _asked_to_wait(error: SeedanceError) -> float:
    return getattr(error, "retry_after", None) or 0.0


def _settled(watch: Watch, record: TaskRecord) -> Flow[TaskRecord]:
    """Read the credits once more where the vendor settles them after success (contract 4.3)."""
    if not catalog.settles_later(record.model) or watch.clock() + defaults.SETTLEMENT_DELAY > watch.deadline:
        return record
    yield Sleep(defaults.SETTLEMENT_DELAY)
    try:
        members = yield from _exchange(watch._call.read, watch._send)
        again = parse_task(members, seedance_task_id=record.seedance_task_id)
    except SeedanceError as error:
        watch.log.warning(
            "The settled credits could not be read; the task is unaffected: %s (task %s)",
            str(error).removesuffix(f" (task {record.seedance_task_id})"),
            record.seedance_task_id,
        )
        return record
    if again.credits_used is None or again.status is not TaskStatus.SUCCESS:
        return record
    return record.model_copy(update={"credits_used": again.credits_used})


def task_failed(record: TaskRecord) -> SeedanceTaskFailedError:
    """The error of a generation that ended as ``fail``."""
    assert record.failure is not None  # noqa: S101 - a failed record has one
    code = f" (code {record.failure.code})" if record.failure.code else ""
    return SeedanceTaskFailedError(
        f"Generation failed: {record.failure.message.rstrip('.')}{code}. The vendor refunds failed tasks; change the "
        f"inputs, then submit again (task {record.seedance_task_id})",
        code=record.failure.code,
        message=record.failure.message,
        record=record,
        seedance_task_id=record.seedance_task_id,
    )


def _output_missing(record: TaskRecord, seconds: float) -> SeedanceOutputMissingError:
    return SeedanceOutputMissingError(
        f"Success without a usable URL, for {seconds:.0f} s. The task is charged: collect it later with "
        f"{collect_with(record.seedance_task_id)}, or ask the vendor's support",
        record=record,
        seedance_task_id=record.seedance_task_id,
    )


def timed_out(seedance_task_id: str, timeout: float, state: str) -> SeedanceTaskTimeoutError:
    """The error of a deadline that passed.

    :param seedance_task_id: The task's id.
    :param timeout: Seconds that were waited.
    :param state: What was known of the task, as part of a sentence.
    """
    return SeedanceTaskTimeoutError(
        f"Not ended after {schedule.in_words(timeout)}: {state}. {CLEAR_TO_WAIT}; the video keeps running and will be "
        f"billed. Or collect it with {collect_with(seedance_task_id)} and a longer timeout",
        seedance_task_id=seedance_task_id,
    )
