"""Every default and limit of this provider, with its reason. Imports nothing, so that anything may import it."""

from __future__ import annotations

CONN_TYPE = "seedance"
DEFAULT_CONN_ID = "seedance_default"
CONFIG_SECTION = "seedance"
DEFAULT_MODEL = "seedance-20"

DEFAULT_BASE_URL = "https://seedance2-pro.com"
API_PATH = "/api/v1"
DEFAULT_SUBMIT_POLICY = "vendor"
"""The vendor's own retry table (the seed document)."""

# One exchange.

DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_READ_TIMEOUT = 60.0
"""Seconds for a whole answer, its headers and its body: a server that sends a byte a second must not hold a worker."""
MAX_TIMEOUT = 3600.0
"""Seconds. Longer timeouts of a connection do not fit into every clock on the way, and help nobody."""
UPLOAD_BYTES_PER_SECOND = 64 * 1024
"""The slowest upload that is waited for, beyond the read timeout."""
LAST_EXCHANGE_SECONDS = 90.0
"""How long after the deadline of a wait an exchange may still last, however long the timeouts of the connection are:
the wait must be over before Airflow ends it (``BACKSTOP_SECONDS``)."""
MAX_BODY = 1024 * 1024
"""Bytes read of an answer; records have a few hundred."""
MAX_REPEATED_BODY = 2048
"""Bytes of an answer up to which a waiter keeps it, to know it again."""
MAX_LINE = 64 * 1024
"""Bytes of a status line or of a header; http.client's own limit."""
MAX_HEADERS = 100
"""Headers of an answer; http.client's own limit."""

# What the waiters on a connection share in a triggerer.

MAX_CONNECTIONS = 100
"""Connections to the API in one triggerer, aiohttp's own default: thousands of polls take turns on them."""
KEEP_ALIVE_SECONDS = 45
"""Longer than the pauses of the schedule, shorter than the minute after which gateways close idle connections."""
DNS_CACHE_SECONDS = 300
"""For how long an address is used again. A connection that is kept open does not ask at all."""
FAR_SECONDS = 30.0
"""From how far on a deadline is watched by the one timer of all."""
LAST_CALL_SECONDS = 0.5
"""How long a request whose deadline has come still waits for a free connection."""
LOOKUP_SECONDS = 30.0
"""How long one lookup of the Airflow connection may take."""
LAST_LOOKUP_SECONDS = 10.0
"""How long somebody whose deadline has come still waits for it."""
NOT_FOUND_LOOKUPS = 3
"""Lookups in a row that must find no connection: Airflow says so as well when a secrets backend or its API failed."""
LONG_DELAY = 5.0
"""Seconds from which on a waiter is told that the rate limiter holds it back."""

# What is read of the vendor's.

MAX_TEXT = 1000
"""Characters kept of a text of the vendor's: enough to read, small enough for XCom."""
MAX_TASK_ID = 255
"""Characters of a taskId; real ones have about thirty (contract 3.1)."""
MAX_URL = 4096
"""Characters of a URL; signed ones have about a thousand."""
MAX_OUTPUTS = 16
"""Outputs of one task; real ones have up to four (contract 4.3)."""
MAX_PROBLEMS = 20
"""How many of a 400's ``errors`` are read."""
MAX_EXCERPT = 200
"""Characters shown of an answer that is not the API's: enough to tell whose error page it is."""
MAX_REASON = 300
"""Characters of a library's own words in the text of an error: some print a whole answer."""
MIN_SECRET = 8
"""Characters from which on a key is looked for in answers: a shorter one, an emulator's, may be part of any word."""

# What is shown.

MAX_LABEL = 60
"""Characters of a prompt that name a mapped task: Airflow keeps 250, a list of tasks has room for fewer."""

# Trying again.

ATTEMPTS = 3
"""Requests in all for one createTask or one get_task: the vendor's own retry rule (the seed document)."""
MAX_UNKNOWN_OUTCOMES = 3
"""createTasks of unknown outcome for one wanted video, over resends, slot rounds and retries of Airflow together."""
BACKOFF_BASE = 1.0
BACKOFF_CAP = 60.0
RETRY_AFTER_CAP = 300.0

# Waiting for a task.

DEFAULT_WAIT_TIMEOUT = 30 * 60.0
"""Seconds from the start of waiting to the deadline. The seed's 300 s is too short for today's models
(contract 8)."""
MAX_SECONDS = 366 * 24 * 3600.0
"""The longest duration that can be given: longer ones do not fit into a date."""
NOT_FOUND_GRACE = 30.0
"""Seconds after the start of waiting in which a 404 is taken for a record that is not readable yet
(contract 12.3)."""
DENIALS = 3
"""Polls in a row that 401, 403 or 404 must answer before they end the wait for a task that was seen alive."""
DENIAL_SECONDS = 120.0
"""The least time between the first and the last of those polls."""
OUTPUT_GRACE = 60.0
"""Seconds for which a ``success`` without output is polled on (contract 12.1, 6)."""
OUTPUT_GRACE_INTERVAL = 5.0
SETTLEMENT_DELAY = 5.0
"""Seconds after success at which the credits of some models are read again: the vendor settles them then
(contract 2.5, 4.3)."""
BACKSTOP_SECONDS = 120
"""How much later than the deadline Airflow itself ends a deferral whose triggerer is gone: the trigger, which names
the task, comes first."""
RESUME_SECONDS = 10.0
"""How long after a deferral a trigger fires at the earliest. Airflow's scheduler takes a task instance that is resumed
before it has noted the deferral for one that was killed, and fails it (apache/airflow issue 66374); 4.5 s were too
short on a busy machine."""
CONNECTION_REUSE_SECONDS = 1.0
"""For how long one lookup of a connection serves all triggers that start: Airflow answers one at a time, and a
triggerer that comes back starts thousands at once."""

# Waiting for a slot.

DEFAULT_SLOT_TIMEOUT = 6 * 3600.0
"""Seconds to wait for a free slot: a thousand 3-minute videos on an account of 5 slots take ten hours."""
DEFAULT_SLOT_POLL_INTERVAL = 30.0
"""Seconds after which a lone waiter submits again: a slot that was freed elsewhere is not announced."""
MAX_UNCLAIMED_SLOTS = 200
"""More than an account has slots (contract 7), so that no release is forgotten before its waiter arrives."""
AIRFLOW_DEFAULT_POOL = "default_pool"
"""Airflow's pool of all tasks that name none."""
SLOT_WANTED_SECONDS = 600.0
"""Seconds after the last waiter went in which the videos that still run are polled as if somebody waited: they are the
last ones of many, and what follows them waits for all."""
MAX_SLOT_PATIENCE = 8
"""Guesses in a row make the next one rarer, up to this factor. While all slots are known to be in use it is this rare
at once, but it never stops: a limit may be raised, and a task in an unknown status may be over."""

UPLOAD_REUSE_SECONDS = 20 * 3600.0
"""For how long an upload is used again. The vendor deletes uploads after 24 hours (contract 6)."""

# The ledger.

MAX_CREDITS = 1e9
"""The highest ceiling that makes sense."""
INTENT_SECONDS = 600.0
"""For how long the createTask of another task, asked for by the same idempotency key, may still be under way: three
attempts with the default timeouts, connections and pauses take less than half of that."""
CLOCK_SKEW_SECONDS = 300.0
"""By how much the vendor's clock and ours may differ: a task that is older than its createTask by more is another."""
LEDGER_POLL_INTERVAL = 5.0
LEDGER_POLL_INTERVAL_MAX = 60.0
"""Seconds between two lists by a task that waits for the outcome of another's createTask."""
BUDGET_SECONDS = 30.0
"""For how long a task competes for the last credits of a budget."""
BUDGET_SETTLES_SECONDS = 10.0
"""Age of a reservation that counts for good: a younger one may be given back at once, by one of many that asked for the
same credits."""

# Callbacks.

CALLBACK_PATH = "/seedance/callbacks"
"""Where the API server has the receiver, below its own path."""
CALLBACK_GRACE = 20 * 60.0
"""Seconds for which the callback of a createTask of unknown outcome is waited for: the slowest documented models take
up to 11 minutes (contract 8), and the vendor's queue comes before that."""
CALLBACK_PAUSES = (30.0, 300.0)
"""Between two looks for such a callback, at least and at most, where only a worker can look."""
MAX_CALLBACK_URL = 2000
"""Characters; what is longer does not pass every proxy on the way."""
MAX_CALLBACK_BODY = 64 * 1024
"""Bytes read of a callback; records have a few hundred."""
CALLBACK_SECONDS = 8.0
"""For how long a callback may be on its way through the receiver: its sender waits meanwhile, for a time that is not
documented."""
CALLBACK_KEYS = 256
"""Connections whose keys the receiver holds, to tell a signed path from another without a lookup."""
CALLBACK_KEY_SECONDS = 30.0
"""For how long a connection is not looked up again because a path does not fit its key."""
CALLBACK_LOOKUPS = 2.0
"""Connections looked up per second, and ten times as many at once: whoever names made-up ones must not keep the
database busy."""
CALLBACKS_PER_SECOND = 10.0
"""Signed callbacks taken per second, and ten times as many at once: each may cost a request to the vendor. An account
runs 50 videos at most, each for more than half a minute."""
CALLBACKS_AT_ONCE = 8
"""Callbacks handled at the same time, each in a thread of its own."""
CALLBACKS_WAITING = 64
"""Callbacks that wait for one of those threads; more are told to come again."""
FORMER_TASKS = 10
"""Tasks of former submissions that a receipt names, the newest ones, so that a late callback of theirs is not taken for
that of the present one."""

# Pages.

PAGES_PATH = "/seedance/ui"
"""Where the API server has the pages, below its own path; not above ``CALLBACK_PATH``, which many proxies let in."""
VIDEOS_ROUTE = "seedance-videos"
"""The address of the pages within Airflow's own frame: ``/plugin/`` and this."""
OPERATORS_WITH_VIDEO = {
    "SeedanceCreateTaskOperator": "seedance_provider.operators.seedance",
    "SeedanceGenerateVideoOperator": "seedance_provider.operators.seedance",
    "SeedanceTaskSensor": "seedance_provider.sensors.seedance",
    "SeedanceToObjectStorageOperator": "seedance_provider.transfers.seedance_to_object_storage",
    "_SeedanceDecoratedOperator": "seedance_provider.decorators.seedance",
}
"""Classes whose task instances have a page, and the modules of these; named, because a plugin must not import them."""
STORED_READS_AT_ONCE = 8
"""Reads of stored copies at a time by one API server, each of 1 MiB in a thread: a store that hangs must not take the
threads of Airflow's own requests."""
MAX_ESTIMATE_BODY = 64 * 1024
"""Bytes of inputs whose price a page asks for; pages leave out prompts, which do not change it."""

ANSWER_SECONDS = 3.0
"""For how long what one reader of a page was told is told to others: readers of one run do not multiply its queries."""
SPENDING_SECONDS = 30.0
"""The same for the ledger, whose receipts take a read each."""
ANSWERS_KEPT = 200
"""Such answers in one API server, each up to some hundred kB."""
ANSWERS_AT_ONCE = 4
"""Such answers that are made at a time: pages must not take all of the API server's connections to the database."""
TASKS_AT_ONCE = 500
"""Task instances of a run in one answer."""
RECORDS_OF_RUN = 10_000
"""XComs of one key that are read for a run."""
RUNS_LISTED = 1000
"""Newest DAG runs that are looked through for videos."""
SPENDING_DAYS = 90
"""The longest time over which the page of spending looks back."""
ORPHANS_LISTED = 500
"""Videos that nobody took which one answer names, the newest ones."""
BUDGETS_LISTED = 50
"""Budgets whose sum is read, those that were used last: each takes a list of its folder."""

# Storing outputs.

MAX_OUTPUT_BYTES = 10 * 1024**3
"""Bytes of one output; a minute of 4K has about one GB. A server that never ends must not fill a store."""
DOWNLOAD_BYTES_PER_SECOND = 64 * 1024
"""The slowest download that is waited for, beyond the timeouts of the connection."""
MAX_SIDECAR = 64 * 1024
"""Bytes of a sidecar that are read; ours have about 500, and others write into buckets too."""
MAX_REDIRECTS = 5
"""Redirects followed for one output."""
TRANSFER_ATTEMPTS = 3
"""Attempts in one try to store an output."""
LAST_TRANSFER_ATTEMPTS = 6
"""The same where a retry would submit another video: nothing remembers this one."""
TRANSFERS_AT_ONCE = 4
"""Outputs of one task instance that are stored on a disk at a time, each in about 5 MiB of memory. Uploads take 50 MiB
each, so there it is one."""
LINK_SECONDS = 23 * 3600.0
"""Age of an output from which on its record is read again before its links are used: signed ones live for 24 hours
(contract 9)."""
SETTLING_SECONDS = 600.0
"""Age of an output up to which a link that is not found may still appear: a CDN takes its time."""
TRANSFER_LOG_SECONDS = 10.0
"""Seconds between two lines of log about a transfer that takes longer."""
