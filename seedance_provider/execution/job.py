"""What a task instance wants of Seedance, apart from Airflow's operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from seedance_provider.api import validation
from seedance_provider.events import ResumeState
from seedance_provider.exceptions import (
    SeedanceConfigurationError,
    SeedanceError,
    SeedanceInvalidRequestError,
    invalid_inputs,
)
from seedance_provider.execution.memory import Receipts
from seedance_provider.execution.receipts import Receipt, Stamp, fingerprint
from seedance_provider.execution.stores import Facts
from seedance_provider.hooks.seedance import SeedanceHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from seedance_provider.api.messages import AnyLogger
    from seedance_provider.api.pricing import CreditEstimate


@dataclass
class Job:
    """One task instance that submits.

    :param context: Airflow's context.
    :param log: The task's log.
    :param task_id: The Airflow task, for messages.
    :param retries: Its ``retries``.
    :param model: The model id.
    :param raw_inputs: The inputs as rendered: a mapping or the text of a JSON object.
    :param write_inputs: Writes the inputs, when a task is about to be submitted; ``raw_inputs`` is then only what tells
        the wanted video from another.
    :param callback_url: Where the vendor posts the outcome, if anywhere.
    :param seedance_conn_id: The Airflow connection.
    :param submit_policy: ``vendor`` or ``safe``; None for what the connection says.
    :param validation: ``strict`` or ``warn``.
    :param upload_media: Whether files in the inputs are uploaded.
    :param slot_timeout: Seconds to wait for a slot, for each submission.
    :param slot_poll_interval: Seconds after which a lone waiter for a slot submits again.
    :param durable: Whether the submission is remembered.
    :param deferrable: Whether waiting is done in the triggerer.
    :param follows: Whether the task instance stays with its task to the end.
    :param stores: Whether its outputs are stored before it is delivered. Default False.
    :param pushes: Whether XCom is pushed.
    :param idempotency_key: Names the wanted video, whoever asks for it; None for one per task instance.
    :param has_key: Whether the DAG author gave a key, whatever it rendered to.
    :param max_credits: The most credits that a task may cost; None for no limit.
    :param budget_name: A budget that it counts in; None for none.
    :param budget_credits: That budget's limit.
    :param use_callback: Whether the vendor posts the end to the callback receiver; None where that is possible.
    :param has_pool: Whether it runs in a pool, in which others may wait for its end. Default False.
    :param on_completion: Name and URI of the asset whose event a callback registers; None without one.
    :param state: What was carried over a deferral.
    """

    context: Context
    log: AnyLogger
    task_id: str
    retries: int
    model: str
    raw_inputs: Mapping[str, Any] | str
    callback_url: str | None
    seedance_conn_id: str
    submit_policy: str | None
    validation: str
    upload_media: bool
    slot_timeout: float
    slot_poll_interval: float
    durable: bool
    deferrable: bool
    follows: bool
    pushes: bool
    stores: bool = False
    idempotency_key: Any = None
    has_key: bool = False
    max_credits: Decimal | None = None
    budget_name: Any = None
    budget_credits: Decimal | None = None
    use_callback: bool | None = None
    has_pool: bool = False
    on_completion: tuple[str, str] | None = None
    write_inputs: Callable[[], dict[str, Any]] | None = None
    state: ResumeState = field(default_factory=ResumeState)

    @cached_property
    def hook(self) -> SeedanceHook:
        """The connection."""
        return SeedanceHook(self.seedance_conn_id, submit_policy=self.submit_policy)

    @cached_property
    def receipts(self) -> Receipts:
        """What is remembered of this task instance."""
        facts = Facts(self.model, self.seedance_conn_id, self.key, on_completion=self.on_completion)
        return Receipts.of(self.context, durable=self.durable, facts=facts)

    @cached_property
    def key(self) -> str | None:
        """The idempotency key as rendered; None without one.

        :raises SeedanceConfigurationError: if it is empty, or None although one was given.
        """
        return rendered_name("idempotency_key", self.idempotency_key, is_given=self.has_key)

    @cached_property
    def budget(self) -> str | None:
        """The budget's name as rendered; None without one.

        :raises SeedanceConfigurationError: if it is empty, or None although there are ``budget_credits``.
        """
        return rendered_name("budget", self.budget_name, is_given=self.budget_credits is not None)

    @cached_property
    def estimate(self) -> CreditEstimate | None:
        """What a task will cost; None if that is not known.

        :raises SeedanceError: if the price list cannot be used.
        """
        return self.hook.estimate_credits(self.model, self.inputs)

    @property
    def expected(self) -> CreditEstimate | None:
        """What the present submission was expected to cost; None if that is not known."""
        try:
            return self.receipts.facts.estimate or (self.estimate if self.has_inputs else None)
        except SeedanceError:
            return None  # of the price list: said before the submission

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The inputs, read or written once, also over deferrals.

        :raises SeedanceInvalidRequestError: if they are not a mapping.
        """
        if self.write_inputs is not None:
            if self.state.inputs is None:
                self.state = replace(self.state, inputs=self.write_inputs())
            return self.state.inputs or {}
        return validation.normalise(parse_inputs(self.raw_inputs))

    @property
    def has_inputs(self) -> bool:
        """Whether the inputs are there without being written."""
        return self.write_inputs is None or self.state.inputs is not None

    @property
    def known_inputs(self) -> dict[str, Any]:
        """The inputs; empty if they would have to be written first."""
        return self.inputs if self.has_inputs else {}

    @cached_property
    def wanted(self) -> Receipt:
        """The receipt of a submission that this try has not made yet."""
        inputs = self.inputs if self.write_inputs is None else validation.normalise(parse_inputs(self.raw_inputs))
        request = fingerprint(self.model, inputs, conn_id=self.seedance_conn_id, base_url=self.hook.settings.base_url)
        return Receipt(request, *self.stamp)

    @cached_property
    def stamp(self) -> Stamp:
        """The try that runs."""
        ti: Any = self.context["ti"]
        return Stamp(ti.max_tries or 0, ti.try_number or 1, self.retries or 0)

    @property
    def will_be_retried(self) -> bool:
        """Whether Airflow retries this try if it fails."""
        return self.stamp.try_number <= self.stamp.max_tries

    def check(self) -> None:
        """Check the inputs before anything is sent.

        :raises SeedanceInvalidRequestError: if the vendor would refuse or misread them, under ``strict``.
        """
        report = validation.check(self.model, self.inputs, allow_local_media=self.upload_media)
        for warning in report.warnings:
            self.log.warning("%s", warning)
        if report.problems and self.validation == "strict":
            raise invalid_inputs(self.task_id, report.problems, validation.describe(report.problems))
        if report.problems:
            described = validation.describe(report.problems)
            self.log.warning("The inputs look wrong; sent all the same, since validation='warn': %s", described)

    def push(self, key: str, value: Any) -> None:
        """Push to XCom what must not fail a task that is charged."""
        if not self.pushes:
            return
        try:
            self.context["ti"].xcom_push(key=key, value=value)
        except Exception:
            self.log.exception("Pushing %s to XCom failed", key)


def rendered_name(argument: str, value: Any, *, is_given: bool) -> str | None:
    """Read a name that a template may have rendered.

    :param argument: What it is an argument of, for the message.
    :param value: The value.
    :param is_given: Whether the DAG author named one; else None is none.
    :raises SeedanceConfigurationError: if it is empty or None, as a template that finds nothing renders.
    """
    if value is None and not is_given:
        return None
    name = str(value).strip()
    if name in ("", "None"):
        shown = name or "empty"
        raise SeedanceConfigurationError(f"{argument} is {shown}: its template rendered nothing. No request was sent")
    return name


def parse_inputs(inputs: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """Read the inputs of an operator after rendering: a mapping, or the text of a JSON object.

    :raises SeedanceInvalidRequestError: for anything else.
    """
    parsed: Any = inputs
    if isinstance(inputs, str):
        try:
            parsed = json.loads(inputs)
        except (ValueError, RecursionError) as error:
            raise SeedanceInvalidRequestError(
                f"inputs is a string but not JSON ({error}): it must be a dict, a JSON object, or a .json file with "
                "one. No request was sent"
            ) from error
    if not isinstance(parsed, Mapping):
        raise SeedanceInvalidRequestError(
            f"inputs is not a mapping ({parsed!r:.100}): it must be a dict or a JSON object. No request was sent"
        )
    return parsed
