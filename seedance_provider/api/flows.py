"""What to do, step by step, to submit a task, to read one and to wait for one: written once for sync and async.

A flow is a generator. It yields :class:`Send`, :class:`Sleep` or :class:`RenewKey`; a transport carries the step out
and sends back the reply, nothing, or whether the key changed. A failed exchange is thrown in as
:class:`SeedanceTransportError`. The flow's return value is its result. A flow has no clock: it is given one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from seedance_provider.api import calls, errors, policy
from seedance_provider.api.models import TaskRecord, parse_task, read_status
from seedance_provider.exceptions import (
    SeedanceAuthenticationError,
    SeedanceConcurrencyLimitError,
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
    import logging

    from airflow.sdk.types import Logger

    from seedance_provider.uploads import Media

    AnyLogger: TypeAlias = logging.Logger | Logger

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and give back the :class:`~seedance_provider.api.calls.Reply`.

    :param request: What to send.
    :param deadline: A time, epoch seconds, beyond which it must not wait for its turn; None if there is none.
    """

    request: calls.Request
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let this time pass.

    :param seconds: How long.
    :param brief: True if the pause belongs to one look at a task, so that a caller that can give up its worker in
        between should not do so here.
    :param status: The task's status as last seen, where the pause is one of :func:`wait`.
    """

    seconds: float
    brief: bool = False
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Send a file to the URL of its ticket, without the API key, and give back the reply."""

    ticket: calls.UploadTicket
    media: Media


@dataclass(frozen=True, slots=True)
class RenewKey:
    """Read the connection again and give back whether its API key changed since the last request."""


Step: TypeAlias = Send | Sleep | RenewKey | Put
Flow: TypeAlias = Generator[Step, Any, T]

# What a GET may be repeated after: nothing was lost, and the next answer may be better.
_PASSING: tuple[type[SeedanceError], ...] = (
    SeedanceServerError,
    SeedanceTransportError,
    SeedanceConcurrencyLimitError,
)
# A record may not be readable at once after its creation (contract 12.3).
_PASSING_OR_NOT_FOUND: tuple[type[SeedanceError], ...] = (*_PASSING, SeedanceTaskNotFoundError)


def submit(call: calls.Call[str], submit_policy: policy.SubmitPolicy, log: AnyLogger) -> Flow[str]:
    """Send a createTask and return the taskId. Each request that reaches the API may cost a video.

    :param call: From :func:`~seedance_provider.api.calls.create_task`.
    :param submit_policy: Whether a request of unknown fate is sent again.
    :param log: Told of each resend.
    :return: The taskId.
    :raises SeedanceSubmitUncertainError: if a task may exist whose id is unknown.
    :raises SeedanceError: any row of the error table.
    """
    may_have_bought = False
    for attempt in range(1, policy.ATTEMPTS + 1):
        try:
            return call.read((yield Send(call.request)))
        except (SeedanceServerError, SeedanceTransportError) as error:
            certainly_unsent = isinstance(error, SeedanceTransportError) and not error.request_sent
            may_have_bought = may_have_bought or not certainly_unsent
            if submit_policy is policy.SubmitPolicy.SAFE and not certainly_unsent:
                raise SeedanceSubmitUncertainError(
                    f"createTask got no usable answer ({error}), so a video may or may not have been bought. "
                    "submit_policy='safe' does not send it again: look at the account's task list on the vendor's "
                    "site; if there is no such task, clear this one",
                    status_code=error.status_code,
                    message=error.message,
                ) from error
            if attempt == policy.ATTEMPTS:
                if may_have_bought and isinstance(error, SeedanceTransportError):
                    error.request_sent = True  # by an earlier attempt
                raise
            pause = policy.backoff(attempt, random.random())
            if certainly_unsent:
                log.warning(
                    "createTask did not reach Seedance (%s); nothing was bought. Attempt %d of %d in %.1f s",
                    error,
                    attempt + 1,
                    policy.ATTEMPTS,
                    pause,
                )
            else:
                log.warning(
                    "createTask got no usable answer (%s). The vendor calls it safe to send again, so it is: attempt "
                    "%d of %d in %.1f s. If the first one did start a task, this buys a second video; "
                    "submit_policy='safe' would stop here",
                    error,
                    attempt + 1,
                    policy.ATTEMPTS,
                    pause,
                )
        yield Sleep(pause, brief=True)
    raise AssertionError("unreachable: the last attempt returns or raises")


def repeat(
    call: calls.Call[T], log: AnyLogger, *, attempts: int = policy.ATTEMPTS, seedance_task_id: str | None = None
) -> Flow[T]:
    """Send a call that is safe to repeat, as often as it takes but not more than three times.

    :param call: The call.
    :param log: Told of each failed attempt.
    :param attempts: Requests in all. Default 3.
    :param seedance_task_id: The task that it is about, if any; put on errors.
    :return: The call's answer.
    :raises SeedanceError: any row of the error table.
    """
    return _repeated(lambda: _exchange(call), log, attempts, seedance_task_id)


def upload(call: calls.Call[calls.UploadTicket], media: Media, log: AnyLogger) -> Flow[str]:
    """Upload a file. Free; for the synchronous transport only.

    :param call: From :func:`~seedance_provider.api.calls.request_upload`.
    :param media: The file.
    :param log: Told of each failed attempt.
    :return: The file's public URL.
    :raises SeedanceError: any row of the error table.
    """

    def attempt() -> Flow[str]:
        ticket = yield from _exchange(call)
        reply = yield Put(ticket, media)
        if reply.status == 403:
            raise SeedanceServerError(f"The signed URL refused the file ({errors.excerpt(reply)}); it may have expired")
        if not 200 <= reply.status < 300:
            raise errors.error_of(reply, spends=False)
        return ticket.url

    return _repeated(attempt, log, policy.ATTEMPTS, None)


def _repeated(start: Callable[[], Flow[T]], log: AnyLogger, attempts: int, seedance_task_id: str | None) -> Flow[T]:
    for attempt in range(1, attempts + 1):
        try:
            return (yield from start())
        except _PASSING as error:
            error.seedance_task_id = seedance_task_id
            if attempt == attempts:
                raise
            pause = max(policy.backoff(attempt, random.random()), _asked_to_wait(error))
            log.warning("%s. Asking again in %.1f s", error, pause)
        yield Sleep(pause, brief=True)
    raise AssertionError("unreachable: the last attempt returns or raises")


def get(seedance_task_id: str, log: AnyLogger, *, attempts: int = policy.ATTEMPTS) -> Flow[TaskRecord]:
    """Read one task's record. Free.

    :param seedance_task_id: The task's id.
    :param log: Told of each failed attempt.
    :param attempts: Requests in all. Default 3.
    :return: The record, whatever its status.
    :raises SeedanceError: any row of the error table; carries the id.
    """
    call = calls.get_task(seedance_task_id)
    record = yield from repeat(call, log, attempts=attempts, seedance_task_id=seedance_task_id)
    return parse_task(record, seedance_task_id=seedance_task_id)


def wait(
    seedance_task_id: str,
    *,
    poll_interval: float | None,
    started_at: float,
    deadline: float,
    clock: Callable[[], float],
    log: AnyLogger,
    look_first: bool = True,
    last_status: str | None = None,
) -> Flow[TaskRecord]:
    """Look at a task until it succeeds. Free; a look that fails never loses the task.

    :param seedance_task_id: The task's id.
    :param poll_interval: Seconds between looks, obeyed exactly; None follows the adaptive schedule.
    :param started_at: When waiting began, epoch seconds; graces and the schedule count from here.
    :param deadline: When to give up, epoch seconds. One look is taken at the deadline itself.
    :param clock: The time, epoch seconds.
    :param log: Told of each change of status and of each look that failed.
    :param look_first: False to start with a jittered pause: after a first look elsewhere, or when many waiters start.
    :param last_status: The status already logged, if any.
    :return: The record of a success with at least one output.
    :raises SeedanceTaskFailedError: if the task failed, or succeeded without output.
    :raises SeedanceTaskTimeoutError: if it still runs at the deadline.
    :raises SeedanceError: for an answer that trying again cannot change (400, 401, 402, 403, 404); carries the id.
    """
    call = calls.get_task(seedance_task_id)
    send = Send(call.request, deadline)
    failures = 0
    problem: SeedanceError | None = None
    record: Mapping[str, Any] | None
    missing_output_since: float | None = None
    if not look_first:
        now = clock()
        # Some part of the interval, so that those who start together do not look together. After that a fixed interval
        # is exact.
        pause = policy.poll_delay(now - started_at, poll_interval, random.random()) * random.random()
        yield Sleep(max(min(pause, deadline - now), 0.0))
    while True:
        brief = False
        pause = 0.0
        try:
            record = yield from _exchange(call, send)
        except _PASSING_OR_NOT_FOUND as error:
            if isinstance(error, SeedanceTaskNotFoundError) and clock() - started_at > policy.NOT_FOUND_GRACE:
                raise
            failures += 1
            problem = error
            pause = max(policy.backoff(failures, random.random()), _asked_to_wait(error))
            log.warning(
                "Looking at task %s failed, it is not lost and is looked at again: %s",
                seedance_task_id,
                str(error).removeprefix(f"task {seedance_task_id}: "),
            )
        else:
            failures = 0
            problem = None
            status, word = read_status(record)
            if word != last_status:
                _log_change(log, seedance_task_id, last_status, word, clock() - started_at)
                last_status = word
            if status.is_terminal:
                result = _ended(parse_task(record, seedance_task_id=seedance_task_id))
                if result is not None:
                    return (yield from _settled(call, result, log))
                brief = True
                pause = policy.OUTPUT_GRACE_INTERVAL
                if missing_output_since is None:
                    missing_output_since = clock()
                # At the deadline too: it is not a task that still runs.
                if clock() >= min(missing_output_since + policy.OUTPUT_GRACE, deadline):
                    raise _output_missing(record, seedance_task_id, clock() - missing_output_since)
        now = clock()
        if now >= deadline:
            raise _timed_out(seedance_task_id, last_status, round(deadline - started_at, 1), problem) from problem
        if not brief:
            pause = max(pause, policy.poll_delay(now - started_at, poll_interval, random.random()))
        record = None  # thousands sleep now, and none needs its last answer
        yield Sleep(min(pause, deadline - now), brief, last_status)


def _log_change(log: AnyLogger, seedance_task_id: str, before: str | None, now: str | None, age: float) -> None:
    # A function of its own: Airflow's logger looks at its caller's frame, which a sleeping wait would then keep.
    log.info("Task %s: %s -> %s after %.0f s", seedance_task_id, before or "created", now, age)


def _exchange(call: calls.Call[T], send: Send | None = None) -> Flow[T]:
    """Send a call that is safe to repeat; a key that was rotated meanwhile is picked up once."""
    send = send or Send(call.request)
    try:
        return call.read((yield send))
    except SeedanceAuthenticationError:
        if not (yield RenewKey()):
            raise
    return call.read((yield send))


def _asked_to_wait(error: SeedanceError) -> float:
    return getattr(error, "retry_after", None) or 0.0


def _ended(record: TaskRecord) -> TaskRecord | None:
    """Return a success, raise a failure; None for a success whose output is still missing."""
    if record.failure is not None:
        code = f" with code {record.failure.code}" if record.failure.code else ""
        raise SeedanceTaskFailedError(
            f"Task {record.seedance_task_id} failed{code}: {record.failure.message.rstrip('.')}. It never recovers; "
            "the vendor refunds failed tasks. Change the inputs, then create a new one",
            code=record.failure.code,
            message=record.failure.message,
            record=record,
            seedance_task_id=record.seedance_task_id,
        )
    return record if record.outputs else None


def _settled(call: calls.Call[Mapping[str, Any]], record: TaskRecord, log: AnyLogger) -> Flow[TaskRecord]:
    """Read the credits once more where the vendor settles them after success (contract 4.3)."""
    if not (record.model or "").startswith(policy.SETTLED_LATER_PREFIX):
        return record
    yield Sleep(policy.SETTLEMENT_DELAY, brief=True)
    try:
        again = parse_task((yield from _exchange(call)), seedance_task_id=record.seedance_task_id)
    except SeedanceError as error:
        log.warning("The settled credits of task %s could not be read: %s", record.seedance_task_id, error)
        return record
    return record if again.credits_used is None else record.model_copy(update={"credits_used": again.credits_used})


def _output_missing(record: Mapping[str, Any], seedance_task_id: str, seconds: float) -> SeedanceOutputMissingError:
    return SeedanceOutputMissingError(
        f"Task {seedance_task_id} says success but lists no usable URL, and has done so for {seconds:.0f} s. It was "
        f"paid for: look again later with SeedanceTaskSensor(seedance_task_id={seedance_task_id!r}), or ask "
        "the vendor's support with this id",
        record=parse_task(record, seedance_task_id=seedance_task_id),
        seedance_task_id=seedance_task_id,
    )


def _timed_out(
    seedance_task_id: str, last_status: str | None, timeout: float, problem: SeedanceError | None
) -> SeedanceTaskTimeoutError:
    state = f"it was still {last_status!r}" if last_status else "no answer named a status"
    if problem is not None:
        state = f"the last look failed: {problem}"
    return SeedanceTaskTimeoutError(
        f"Task {seedance_task_id} did not end within {timeout:g} s; {state}. It goes on and is billed when it ends: "
        f"wait for it again with SeedanceTaskSensor(seedance_task_id={seedance_task_id!r}) and a longer timeout",
        seedance_task_id=seedance_task_id,
    )
