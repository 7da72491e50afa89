"""Whether submitting a failed task again may end better (contract 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedance_provider.api.records import TaskFailure

# The codes do not tell: 500 and 1001 stand for faults of the inputs and for transient faults alike, so only the texts
# of the transient ones are listed, in lower case.
TRANSIENT_TEXTS = (
    "temporarily unavailable",  # 1001, and the ancestor's "Model temporarily unavailable"
    "serviceunavailable",  # 500 of the Wan models, with "<503>"
    "generation failed. please try again",  # 500 of seedance2-fast
    "processing timeout",  # the ancestor's
)


def may_resubmit_help(failure: TaskFailure) -> bool:
    """Tell a transient fault of the vendor's from one that the same inputs will meet again.

    The default is no: a moderation verdict, an unreachable reference or an unknown reason stays, and each new task
    holds credits until it is refunded.

    :param failure: Why the task failed.
    :return: True only for the texts that the contract lists as transient.
    """
    message = failure.message.casefold()
    return any(text in message for text in TRANSIENT_TEXTS)
