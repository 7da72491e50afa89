"""The rows of the crash table that nobody can decide, once more with callbacks.

    python devtools/crash_callbacks.py                 # with a ledger
    python devtools/crash_callbacks.py --task-state    # with Airflow's task state store

The kills, the DAGs and the Airflow are those of ``crash_harness.py``; here the vendor also posts the end of each video
to the API server. Ends with 1 if a case ends otherwise than `EXPECTED` says.
"""

from __future__ import annotations

import argparse
import sys

import crash_harness
from callbacks import Proxy
from crash_harness import POINTS, POLICIES, WAYS, Case, Harness, Result, harness, say

GRACE_SECONDS = 240  # longer than it takes this machine to notice the kills, and to start the retries
EXPECTED = {
    ("after_intent", "vendor"): ("success", 1, 1),
    ("after_intent", "safe"): ("failed", 0, 0),  # no callback is no proof
    ("request_sent", "vendor"): ("success", 1, 1),
    ("request_sent", "safe"): ("success", 1, 1),
    ("reply", "vendor"): ("success", 1, 1),
    ("reply", "safe"): ("success", 1, 1),
}
"""State, POSTs and bills, by point and policy."""


class Patient(Harness):
    """Lets the videos end when each retry waits for its callback, or has sent what it sends late."""

    def _is_waited_for(self, result: Result) -> bool:
        case = result.case
        if case.point == "after_intent":
            return super()._is_waited_for(result) and (case.policy == "safe" or self._calls(case, "createTask") > 0)
        tasks = self.airflow.task_instances(case.name, result.run_id)
        retried = next(task for task in tasks if task["task_id"] == case.killed_task)
        return bool(retried["state"] == "deferred" and retried["try_number"] == 2)


def is_as_expected(result: Result) -> bool:
    ended = result.state, result.posts, result.bills
    return result.killed and ended == EXPECTED[result.case.point, result.case.policy]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task-state", action="store_true", help="without a ledger")
    options = parser.parse_args()
    cases = [
        Case(f"{way}_{policy}_{point}", point, way, policy)
        for point in dict.fromkeys(point for point, _ in EXPECTED)
        for way in WAYS
        for policy in POLICIES
    ]
    with Proxy() as proxy:
        crash_harness.ENVIRONMENT["AIRFLOW__SEEDANCE__CALLBACK_BASE_URL"] = proxy.url
        crash_harness.ENVIRONMENT["AIRFLOW__SEEDANCE__CALLBACK_GRACE"] = str(GRACE_SECONDS)
        with harness(cases, ledger=not options.task_state) as running:
            proxy.targets = [running.airflow.url]
            running.__class__ = Patient
            # First those whose callbacks come when the videos end, then those that wait in vain before.
            results = running.run([case for case in cases if case.point != "after_intent"])
            results += running.run([case for case in cases if case.point == "after_intent"])
    print("| Killed | Way | Policy | Wanted | POSTs | Bills | Task | Tries |")
    print("|:--|:--|:--|--:|--:|--:|:--|--:|")
    for result in sorted(results, key=lambda result: cases.index(result.case)):
        case = result.case
        way = "generate" if case.way == "generate" else "create, sensor"
        state = result.state if is_as_expected(result) else f"**{result.state}, not as expected**"
        numbers = f"1 | {result.posts} | {result.bills} | {state} | {result.tries}"
        print(f"| {POINTS[case.point]} | {way} | {case.policy} | {numbers} |")
    for result in results:
        for line in result.lines:
            say(f"{result.case.name}: {line}")
    return 0 if all(map(is_as_expected, results)) else 1


if __name__ == "__main__":
    sys.exit(main())
