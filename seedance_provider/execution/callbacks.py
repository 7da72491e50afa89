"""Callbacks as a task instance sees them: where the vendor posts to, and what to wait for when an answer was lost.

The receiver in the API server (``plugins``) writes what it finds beside the receipt; only a look there tells of it.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from seedance_provider import defaults
from seedance_provider.config import callback_base_url, callback_grace
from seedance_provider.exceptions import SeedanceConfigurationError, SeedanceError
from seedance_provider.execution.receipts import Stage
from seedance_provider.execution.signing import Claim, sign, signing_key
from seedance_provider.execution.stores import Owner
from seedance_provider.triggers.ledger import SeedanceLedgerTrigger, SeedancePauseTrigger

if TYPE_CHECKING:
    from seedance_provider.execution.job import Job
    from seedance_provider.execution.memory import Found


def receiver_url(job: Job) -> str | None:
    """Where the vendor posts the end of the wanted video: the same URL in each try. None if the receiver is not used.

    :param job: What is wanted.
    :raises SeedanceConfigurationError: if the receiver must be used and cannot.
    """
    must = job.use_callback or job.on_completion is not None
    missing = _missing(job)
    if missing is not None:
        if must:
            what = "use_callback=True" if job.on_completion is None else "on_completion"
            raise SeedanceConfigurationError(f"{what} needs {missing}. No request was sent")
        return None
    claim = Claim.of(job.seedance_conn_id, Owner.of(job.context), job.wanted.fingerprint, job.key)
    url = f"{callback_base_url()}{defaults.CALLBACK_PATH}/{sign(claim, signing_key(job.hook.settings.api_key))}"
    if len(url) <= defaults.MAX_CALLBACK_URL:
        return url
    too_long = f"the callback URL would have {len(url)} characters, {defaults.MAX_CALLBACK_URL} at most are allowed"
    if must:
        raise SeedanceConfigurationError(f"{too_long}: use shorter ids of DAG, run and task. No request was sent")
    job.log.warning("No callback: %s", too_long)
    return None


def _missing(job: Job) -> str | None:
    """What keeps the receiver from being used."""
    if job.use_callback is False:
        return "use_callback to be True or left out"
    if job.callback_url is not None:
        return "callback_url to be left out: the vendor posts to one URL only"
    if callback_base_url() is None:
        return "[seedance] callback_base_url of Airflow's configuration"
    if not AIRFLOW_V_3_1_PLUS:
        return "Airflow 3.1 or later, whose API server has the receiver"
    if not job.receipts.remembers:
        return "durable=True and [seedance] ledger_path of Airflow's configuration, or Airflow 3.3 or later"
    return None


def lost_answer(error: SeedanceError) -> str:
    """What to tell of a createTask whose answer was lost, while its callback may still come."""
    cause = error.__cause__ if isinstance(error.__cause__, SeedanceError) else error
    return (
        f"createTask got no usable answer ({cause.message}), so its outcome is unknown. If the vendor accepted it, the "
        "callback at the video's end will name the task"
    )


def wait_for_callback(job: Job, found: Found | None) -> bool:
    """Wait for the callback of a createTask of unknown outcome, for ``[seedance] callback_grace`` from its sending.

    :param job: What is wanted.
    :param found: Its receipt.
    :return: Whether to decide again: the task must not defer, and has waited.
    :raises TaskDeferred: to wait without a worker.
    """
    if found is None or found.receipt.stage is not Stage.INTENT or not found.receipt.called_back:
        return False
    seconds = callback_grace() - found.age
    if seconds <= 0 or found.receipt.told or job.use_callback is False:
        return False
    now = time.time()
    pause = min(max(found.age / 2, defaults.CALLBACK_PAUSES[0]), defaults.CALLBACK_PAUSES[1], seconds)
    job.log.info(
        "The outcome of a createTask is unknown. Waiting %s for its callback, until %s UTC at the latest",
        "deferred" if job.deferrable else "on the worker",
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now + seconds)),
    )
    if not job.deferrable:
        while (left := now + seconds - time.time()) > 0:
            time.sleep(min(left, defaults.LEDGER_POLL_INTERVAL))
            looked = job.receipts.find()
            if looked is None or looked.receipt.stage is not Stage.INTENT:
                break
        return True
    ledger, state = job.receipts.ledger, job.state.to_json()
    trigger: SeedanceLedgerTrigger | SeedancePauseTrigger
    if ledger is not None:
        trigger = SeedanceLedgerTrigger(ledger.folder.url, str(ledger.standing), now + seconds, state, now)
    else:
        # Only a worker can read Airflow's task state store.
        trigger, seconds = SeedancePauseTrigger(now + pause, state, now), pause
    raise TaskDeferred(
        trigger=trigger,
        method_name="execute_complete",
        timeout=timedelta(seconds=seconds + defaults.BACKSTOP_SECONDS),
    )
