"""Object stores through PyArrow: media, datasets and what lies beneath a store's tables.

Credentials and endpoints come from the environment alone, by the names that LanceDB reads too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mmfeat.schemas.errors import ConfigError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Of each, LanceDB and PyArrow both read, and Lance commits there by put-if-absent.
OBJECT_STORES = ("s3", "gs", "az")


def bucket_of(uri: str) -> str | None:
    """``s3://bucket`` of what lies in an object store; None of a path or an address of another kind."""
    scheme, separator, path = uri.partition("://")
    scheme = scheme.lower()
    return f"{scheme}://{path.partition('/')[0]}" if separator and scheme in OBJECT_STORES else None


def object_store(scheme: str, bucket: str) -> FileSystem:
    """The store behind a bucket (``az``: a container); paths in it start with the bucket's name.

    Raises:
        ConfigError: ``az`` without AZURE_STORAGE_ACCOUNT_NAME.
        OSError: the bucket is not there, or its store does not answer.
    """
    from pyarrow import fs

    if scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        if not account:
            raise ConfigError("az:// needs the environment variable AZURE_STORAGE_ACCOUNT_NAME.")
        return fs.AzureFileSystem(
            account_name=account,
            account_key=os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"),
            sas_token=os.environ.get("AZURE_STORAGE_SAS_TOKEN"),
        )
    return fs.FileSystem.from_uri(f"{scheme}://{bucket}")[0]


def object_place(uri: str) -> tuple[FileSystem, str]:
    """Where a URI of an object store leads: the file system, and the path in it."""
    scheme, _, path = uri.partition("://")
    return object_store(scheme.lower(), path.partition("/")[0]), path
