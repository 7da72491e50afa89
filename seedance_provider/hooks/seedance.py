"""The hook: from an Airflow connection to calls of the Seedance API on a worker."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, BaseHook

from seedance_provider import defaults
from seedance_provider.api import calls, flows, pricing, validation
from seedance_provider.api.records import TaskRecord, read_record
from seedance_provider.config import (
    default_poll_interval,
    default_wait_timeout,
    ledger_path,
    parse_submit_policy,
    seconds_of,
)
from seedance_provider.connection import SeedanceSettings, read_settings, where_in_extra
from seedance_provider.exceptions import (
    SeedanceInvalidRequestError,
    SeedancePermissionError,
    SeedanceTaskNotFoundError,
    SeedanceTransferError,
)
from seedance_provider.get_provider_info import UI_FIELD_BEHAVIOUR
from seedance_provider.hooks import connection_form
from seedance_provider.hooks.media import MediaFile, kind_of
from seedance_provider.hooks.output_files import Incoming, Place, Received, repeated
from seedance_provider.hooks.prices import read_price_list
from seedance_provider.transport.throttle import Throttle, throttled

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from seedance_provider.api.messages import Flow
    from seedance_provider.config import SubmitPolicy

T = TypeVar("T")
_NO_TASK = "airflow-connection-test"


class SeedanceHook(BaseHook):
    """Talks to the Seedance jobs API through an Airflow connection of type ``seedance``.

    The connection: password = API key; host = base URL (default ``https://seedance2-pro.com``, with or without
    ``/api/v1``); extra: ``connect_timeout`` and ``read_timeout`` in seconds, ``submit_policy`` (``vendor`` or
    ``safe``), ``requests_per_minute``, ``max_credits_per_task`` and ``max_credits_per_day``, ``allow_insecure_http``.

    :param seedance_conn_id: The connection's id. Default ``seedance_default``.
    :param submit_policy: ``vendor`` or ``safe``: whether a createTask of unknown outcome is sent again. Default: what
        the connection says.
    """

    conn_name_attr = "seedance_conn_id"
    default_conn_name = defaults.DEFAULT_CONN_ID
    conn_type = defaults.CONN_TYPE
    hook_name = "Seedance"

    def __init__(
        self, seedance_conn_id: str = defaults.DEFAULT_CONN_ID, *, submit_policy: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.seedance_conn_id = seedance_conn_id
        self.submit_policy = None if submit_policy is None else parse_submit_policy(submit_policy, "submit_policy")

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The connection form up to Airflow 3.1; later versions read the provider's metadata instead."""
        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields of the extra up to Airflow 3.1; later versions read the provider's metadata instead."""
        return connection_form.make_widgets()

    @cached_property
    def settings(self) -> SeedanceSettings:
        """The connection as settings; looked up once.

        :raises SeedanceConfigurationError: if a field of it cannot be used.
        :raises SeedanceAuthenticationError: if it has no API key.
        """
        return self._read_settings()

    def _read_settings(self) -> SeedanceSettings:
        return read_settings(self.seedance_conn_id)

    @cached_property
    def _throttle(self) -> Throttle:
        return Throttle(self.settings.requests_per_minute)

    @cached_property
    def _prices(self) -> pricing.PriceList:
        # Once: the file may be in a bucket, and an operator's estimate is compared here again.
        return read_price_list()

    @property
    def effective_submit_policy(self) -> SubmitPolicy:
        """The argument's submit policy, else the connection's."""
        return self.submit_policy or self.settings.submit_policy

    def get_conn(self) -> SeedanceSettings:
        """Return the settings: the API keeps no connection open."""
        return self.settings

    def run(self, flow: Flow[T]) -> T:
        """Execute a flow on this connection, blocking.

        :param flow: From :mod:`seedance_provider.api.flows`.
        :return: The flow's result.
        :raises SeedanceError: what the flow raises.
        """
        # Half of the CPU of a task that resumes would go into importing requests, for nothing: it sends nothing.
        from seedance_provider.transport.sync import SyncTransport

        transport = SyncTransport(self.settings, self._read_settings)
        return transport.drive(throttled(flow, self._throttle, log=self.log))

    def create_task(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        callback_url: str | None = None,
        submit_policy: SubmitPolicy | None = None,
        unknown: int = 0,
        remember: Callable[[int], None] = lambda unknown: None,
    ) -> str:
        """Submit a task. Costs credits as soon as the API accepts it; it cannot be cancelled.

        :param model: The model id, such as ``seedance-20``.
        :param inputs: The model's inputs, such as ``{"prompt": "A sunset", "duration": 5}``.
        :param callback_url: Where the vendor posts the outcome. Default: nowhere.
        :param submit_policy: Whether a createTask of unknown outcome is sent again. Default: the hook's.
        :param unknown: How many createTasks of unknown outcome were sent for this video before. Default 0.
        :param remember: Told of each createTask before it is sent; see :func:`~seedance_provider.api.flows.submit`.
        :return: The taskId.
        :raises SeedanceBudgetExceededError: if it may cost more than the connection's ``max_credits_per_task``.
            ``max_credits_per_day`` is kept by the operators only.
        :raises SeedanceSubmitUncertainError: if a task may exist whose id is unknown.
        :raises SeedanceConcurrencyLimitError: if the account has no free slot; nothing was charged.
        :raises SeedanceError: any other row of the error table.
        """
        call = calls.create_task(
            model, validation.normalise(inputs) if isinstance(inputs, Mapping) else inputs, callback_url
        )
        if (limit := self.settings.max_credits_per_task) is not None:
            where = where_in_extra("max_credits_per_task", self.seedance_conn_id)
            pricing.hold(self.estimate_credits(model, inputs), model, limit, where)
        return self.run(
            flows.submit(
                call,
                submit_policy or self.effective_submit_policy,
                self.log,
                jitter=random.random,
                unknown=unknown,
                remember=remember,
            )
        )

    def estimate_credits(self, model: str, inputs: Mapping[str, Any]) -> pricing.CreditEstimate | None:
        """Work out what a task will cost, by the rates of ``[seedance] price_list`` or the vendor's list. No request.

        The price list is read once, as the connection is.

        :param model: The model id.
        :param inputs: The model's inputs.
        :return: ``low``, ``high`` and the month of the list; equal where the inputs alone fix the price. None for an
            unknown model, and for inputs without a known price.
        :raises SeedanceConfigurationError: if the price list cannot be used.
        """
        return pricing.estimate(model, inputs, self._prices)

    def get_task(self, seedance_task_id: str) -> TaskRecord:
        """Read a task's record, whatever its status. Free; tried up to three times.

        :param seedance_task_id: The task's id.
        :return: The record.
        :raises SeedanceError: any row of the error table.
        """
        return self.run(flows.get(seedance_task_id, self.log, jitter=random.random))

    def watch(
        self, seedance_task_id: str, *, poll_interval: float | None, started_at: float, deadline: float
    ) -> flows.Watch:
        """Make a wait for :func:`~seedance_provider.api.flows.poll` on this machine's clock.

        :param seedance_task_id: The task's id.
        :param poll_interval: Seconds between polls, fixed; None adapts.
        :param started_at: When waiting began, epoch seconds.
        :param deadline: When to give up, epoch seconds.
        """
        return flows.Watch(seedance_task_id, poll_interval, started_at, deadline, time.time, random.random, self.log)

    def wait_for_task(
        self,
        seedance_task_id: str,
        *,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
    ) -> TaskRecord:
        """Wait until a task succeeds, blocking. Free; a poll that fails never loses the task.

        :param seedance_task_id: The task's id.
        :param poll_interval: Seconds between polls. Default: Airflow's ``[seedance] poll_interval``, else adaptive.
        :param timeout: Seconds to wait. Default: Airflow's ``[seedance] timeout``, else 1800.
        :return: The record of the success, with at least one output.
        :raises SeedanceTaskFailedError: if it failed.
        :raises SeedanceTaskTimeoutError: if it still runs after ``timeout``.
        :raises SeedanceError: any other row of the error table.
        """
        now = time.time()
        watch = self.watch(
            seedance_task_id,
            poll_interval=seconds_of("poll_interval", poll_interval) or default_poll_interval(),
            started_at=now,
            deadline=now + (seconds_of("timeout", timeout) or default_wait_timeout()),
        )
        return self.run(flows.wait(watch))

    def upload(self, path: str | os.PathLike[str] | ObjectStoragePath) -> str:
        """Upload a media file so that the vendor can fetch it. Free; the file vanishes after 24 hours.

        The bytes are streamed to a signed URL, which does not get the API key.

        :param path: A local path, an ``ObjectStoragePath``, or the URL of an object such as ``s3://bucket/cat.png``.
        :return: The public URL, for ``imageUrls``, ``videoUrls`` or ``audioUrls``.
        :raises SeedanceInvalidRequestError: if there is no such file, it is empty, or its bytes are not those of an
            image, a video or audio.
        :raises SeedanceError: any other row of the error table.
        """
        media = MediaFile(path)
        call = calls.request_upload(media.name, media.content_type)
        url = self.run(flows.upload(call, media, self.log, jitter=random.random))
        self.log.info(
            "Uploaded %s (%d bytes) to %s; it stays for 24 hours", media.name, media.size, url.partition("?")[0]
        )
        return url

    def download(
        self,
        record_or_url: TaskRecord | Mapping[str, Any] | str,
        path: str | os.PathLike[str] | ObjectStoragePath,
    ) -> str:
        """Download an output, free. It is there as a whole, or not at all; a file of that name is replaced.

        The API key does not go with the request. The vendor refuses the default User-Agents of HTTP libraries, which is
        why a plain ``requests.get`` fails.

        :param record_or_url: A finished task's record, also as the XCom ``seedance_task`` holds it, of which the first
            output is taken; or an output's URL.
        :param path: A local path, an ``ObjectStoragePath``, or the URL of an object such as ``s3://bucket/clip.mp4``.
        :return: The path, as a string.
        :raises SeedanceTransferError: if it cannot be downloaded or stored, or is no image, video or audio.
        :raises SeedanceConfigurationError: for a mapping that is no record.
        """
        from seedance_provider.transport.download import downloading

        expected = None
        if isinstance(record_or_url, str):
            url = record_or_url
        else:
            record = record_or_url if isinstance(record_or_url, TaskRecord) else read_record(record_or_url)
            if not record.outputs:
                raise SeedanceTransferError(
                    f"The record has no output: its status is {record.raw_status!r}",
                    seedance_task_id=record.seedance_task_id,
                    charged="unknown",
                )
            url, expected = record.urls[0], kind_of(record.outputs[0].media_type)
        place = Place(str(path))

        def attempt() -> Received:
            with downloading(url, self.settings) as download:
                return place.save(Incoming(download, expected), self.log)

        received = repeated(attempt, self.log, defaults.TRANSFER_ATTEMPTS)
        self.log.info("Downloaded %s: %s bytes", place, f"{received.bytes:,}")
        return place.url

    def test_connection(self) -> tuple[bool, str]:
        """Ask for a task that cannot exist: tells whether the key is accepted, and costs no credits.

        :return: Whether it is, and a sentence for the user without the key in it.
        """

        def text_of(error: Exception) -> str:
            # The user asked about no task, and the form tests a copy of the connection, which has a name by chance.
            text = str(error).replace(f" (task {_NO_TASK})", "").replace(" (Admin > Connections)", "")
            text = text.replace(f"connection {self.seedance_conn_id!r}", "this connection")
            return text.replace(f"Connection {self.seedance_conn_id!r}", "This connection")

        try:
            where = self.settings.base_url
            if self.settings.max_credits_per_day is not None and ledger_path() is None:
                return False, (
                    "'Max credits per day' needs a ledger: set [seedance] ledger_path of Airflow's configuration"
                )
            # One attempt: somebody is waiting in front of the form.
            self.run(flows.get(_NO_TASK, self.log, jitter=random.random, attempts=1))
        except (SeedanceTaskNotFoundError, SeedanceInvalidRequestError) as error:
            # Both mean that the API judged the id, which it does after the key; without its words it was not the API.
            if error.status_code in (400, 404) and error.message != str(error):
                return True, f"The API key is accepted by {where}"
            if error.status_code == 404:
                return False, f"No Seedance API at {where}: 404. Check 'Base URL' of this connection"
            return False, f"No Seedance API at {where}: {text_of(error)}"
        except SeedancePermissionError as error:
            # The error's own text takes the task for one of another account.
            return False, (
                f"Access denied: {error.status_code} {error.message!r}. Ask the vendor's support to enable API access "
                "for this account"
            )
        except AirflowException as error:
            return False, text_of(error)
        return True, f"The API key is accepted by {where}"
