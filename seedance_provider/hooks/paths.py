"""Local paths and URLs as Airflow's object storage takes them."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import ObjectStoragePath

WHAT_A_STORE_NEEDS = (
    "it must be a URL for which Airflow has a file system, such as s3://aws_default@bucket/path, with its provider "
    "installed where this runs (pip install 'airflow-provider-seedance[s3]', or [gcs], or [azure]) and its connection "
    "there"
)
"""Ends the message of a setting that names no store."""


def object_path(path: str) -> ObjectStoragePath:
    """Find the place of a path; a relative one is below the working directory.

    :param path: A local path, or a URL such as ``s3://aws_default@bucket/clip.mp4``.
    :raises ValueError: if Airflow has no file system for it; ImportError if its provider is not installed.
    """
    # Airflow 3.1 takes a relative path for one below the root.
    return ObjectStoragePath(path if "://" in path else Path(path).absolute())
