"""What Airflow discovers of this provider, by the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from seedance_provider import __version__, defaults

_INTEGRATION = "Seedance"

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "submit_policy": {
        "label": "Submit policy",
        "schema": {"type": ["string", "null"], "enum": ["vendor", "safe"]},
        "description": "What to do when the outcome of a createTask is unknown. vendor (default): send it again, which "
        "may be charged twice; safe: fail, for manual review",
    },
    "requests_per_minute": {
        "label": "Requests per minute",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": "The most requests one process makes on this connection. Default: no limit",
    },
    "connect_timeout": {
        "label": "Connect timeout (s)",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": f"Default: {defaults.DEFAULT_CONNECT_TIMEOUT:.0f}",
    },
    "read_timeout": {
        "label": "Read timeout (s)",
        "schema": {"type": ["integer", "null"], "minimum": 1},
        "description": f"Default: {defaults.DEFAULT_READ_TIMEOUT:.0f}",
    },
    "allow_insecure_http": {
        "label": "Allow http://",
        "schema": {"type": ["boolean", "null"], "default": False},
        "description": "Send the API key unencrypted to a host other than this machine",
    },
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "port", "schema", "extra"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {"host": defaults.DEFAULT_BASE_URL, "password": "from the vendor's page /api-keys"},
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
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.hooks.seedance"]}],
        "operators": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.operators.seedance"]}],
        "sensors": [{"integration-name": _INTEGRATION, "python-modules": ["seedance_provider.sensors.seedance"]}],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": ["seedance_provider.triggers.seedance", "seedance_provider.triggers.slots"],
            }
        ],
        "notifications": ["seedance_provider.notifications.seedance.SeedanceNotifier"],
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
                "description": "Defaults of the Seedance provider; a connection or a parameter may say otherwise.",
                "options": {
                    "submit_policy": {
                        "description": "What to do with a createTask that was sent and got no usable answer: "
                        "``vendor`` sends it again, which may be charged twice; ``safe`` fails, for manual review.",
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
                        "description": "Seconds to wait for a task before giving up on it.",
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "3600",
                        "default": str(int(defaults.DEFAULT_WAIT_TIMEOUT)),
                    },
                },
            }
        },
    }
