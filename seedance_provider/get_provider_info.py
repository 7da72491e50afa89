"""What Airflow discovers of this provider, by the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from seedance_provider import __version__, defaults

_INTEGRATION = "Seedance"
_OBJECT_STORAGE = "Object Storage"

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "submit_policy": {
        "label": "Submit policy",
        "schema": {
            "type": ["string", "null"],
            "enum": ["vendor", "safe"],
            "values_display": {
                "vendor": "vendor: send it again, which may be charged twice",
                "safe": "safe: fail, for manual review",
            },
        },
        "description": "What to do when the outcome of a createTask is unknown: a timeout, a reset or a 5xx. Default: "
        "vendor, unless [seedance] submit_policy of Airflow's configuration says safe",
    },
    "max_credits_per_task": {
        "label": "Max credits per task",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": "A task that may cost more is not submitted. Default: no limit",
    },
    "max_credits_per_day": {
        "label": "Max credits per day",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": "For all tasks of a day (UTC) that share this connection and the ledger, which it needs. "
        "Default: no limit",
    },
    "requests_per_minute": {
        "label": "Requests per minute",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": "Rate limit of one process on this connection. Default: no limit",
    },
    "connect_timeout": {
        "label": "Connect timeout (s)",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": f"To establish a connection. Default: {defaults.DEFAULT_CONNECT_TIMEOUT:.0f}",
    },
    "read_timeout": {
        "label": "Read timeout (s)",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": f"For a whole answer. Default: {defaults.DEFAULT_READ_TIMEOUT:.0f}",
    },
    "allow_insecure_http": {
        "label": "Allow http://",
        "schema": {"type": ["boolean", "null"], "default": False},
        "description": "Send the API key unencrypted to a host other than this machine",
    },
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    # The port stays: the Test button of Airflow 3.3.1 and 3.3.2 needs one that is stored (apache/airflow issue 73298).
    "hidden-fields": ["login", "schema", "extra"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": defaults.DEFAULT_BASE_URL,
        "password": "from the vendor's page /api-keys",
        "port": "443",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's provider_info schema."""
    return {
        "package-name": "airflow-provider-seedance",
        "name": "Seedance",
        "description": "Generate videos with the `Seedance API <https://seedance2-pro.com/docs>`__.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://seedance2-pro.com/docs",
                "tags": ["service"],
            },
            {
                "integration-name": _OBJECT_STORAGE,
                "external-doc-url": "https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/objectstorage.html",
                "tags": ["software"],
            },
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.hooks.seedance"]}],
        "operators": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.operators.seedance"]}],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.sensors.seedance"]}],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    "seedance_provider.triggers.ledger",
                    "seedance_provider.triggers.seedance",
                    "seedance_provider.triggers.slots",
                ],
            }
        ],
        "transfers": [
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": _OBJECT_STORAGE,
                "python-module": "seedance_provider.transfers.seedance_to_object_storage",
            }
        ],
        "task-decorators": [{"name": "seedance", "class-name": "seedance_provider.decorators.seedance.seedance_task"}],
        "notifications": ["seedance_provider.notifications.seedance.SeedanceNotifier"],
        "cli": ["seedance_provider.cli.definition.get_seedance_cli_commands"],  # Airflow 3.2 and later
        "extra-links": ["seedance_provider.links.seedance.SeedanceVideoLink"],
        "connection-types": [
            {
                "connection-type": "seedance",
                "hook-class-name": "seedance_provider.hooks.seedance.SeedanceHook",
                "hook-name": "Seedance",
                "conn-fields": CONN_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "config": {
            "seedance": {
                "description": "Defaults of the Seedance provider; a connection or a parameter takes precedence.",
                "options": {
                    "submit_policy": {
                        "description": "For a createTask of unknown outcome (5xx, timeout, reset): ``vendor`` sends it "
                        "again, which may be charged twice; ``safe`` fails, for manual review.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "safe",
                        "default": defaults.DEFAULT_SUBMIT_POLICY,
                    },
                    "poll_interval": {
                        "description": "Seconds between two polls of a running task. Empty: adapts to the task's age.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "10",
                        "default": None,
                    },
                    "timeout": {
                        "description": "Seconds to wait for a task. After that the Airflow task fails; the video keeps "
                        "running and is billed.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "3600",
                        "default": str(int(defaults.DEFAULT_WAIT_TIMEOUT)),
                    },
                    "ledger_path": {
                        "description": "Where receipts of submitted videos are kept, a URL of object storage or an "
                        "absolute path: with it a retry and a clear know the video on every Airflow version. Empty: "
                        "only Airflow 3.3 and later remember it.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@bucket/seedance",
                        "default": None,
                    },
                    "price_list": {
                        "description": "A JSON file with rates that take precedence over the vendor's prices, a URL of "
                        "object storage or an absolute path. Empty: the vendor's prices.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://aws_default@bucket/seedance-prices.json",
                        "default": None,
                    },
                    "callback_base_url": {
                        "description": "The public URL of Airflow's API server (3.1 and later), to which the vendor "
                        "posts the end of a video. Empty: no callbacks.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "https://airflow.example.com",
                        "default": None,
                    },
                    "callback_grace": {
                        "description": "Seconds for which the callback of a createTask of unknown outcome is waited "
                        "for, before ``submit_policy`` decides.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "1800",
                        "default": str(int(defaults.CALLBACK_GRACE)),
                    },
                    "video_tab": {
                        "description": "Show the tab Video on task instances, and Videos on runs and DAGs. Airflow "
                        "3.4 and later show the former on tasks of this provider by themselves; before, a tab is on "
                        "every task of every DAG.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                },
            }
        },
    }
