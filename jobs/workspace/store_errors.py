"""Turns errors of an object store into one line that names the URI and says what to do."""

import contextlib
from collections.abc import Iterator
from typing import Any

from fsspec.core import url_to_fs

from jobs.errors import StoreError, StoreUnreachableError

# Errors of botocore that last until a person corrects something. They are recognised by name, because botocore is an
# optional extra.
_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_NAMES = {"ParamValidationError", "InvalidBucketName", "NoSuchBucket", "NoRegionError", "InvalidRegionError"}


def file_system(uri: str, label: str, **options: Any) -> tuple[Any, str]:
    """Return the file system of a path or URI, and the path in it.

    Args:
        uri: the path or URI.
        label: a description of the URI for messages, such as `workspace`.
        **options: options of the file system.

    Raises:
        StoreError: no package for this scheme is installed, or there is no such scheme.
    """
    try:
        files, path = url_to_fs(uri, **options)
    except (ValueError, ImportError) as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{label} {uri} cannot be used: {text}{_package(uri)}") from error
    return files, path


def errors_of(files: Any, uri: str) -> contextlib.AbstractContextManager[None]:
    """Return `store_errors` for an object store, and a context that changes no errors for a disk.

    Args:
        files: the file system.
        uri: the URI, for messages.
    """
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    return contextlib.nullcontext() if "file" in protocols else store_errors(uri)


def _package(uri: str) -> str:
    """Return how to install the package that a URI needs, if it belongs to an extra of ours; else an empty text."""
    is_s3 = uri.partition("://")[0] in ("s3", "s3a")
    return ". `pip install 'lightsage-ads-retrieval[s3]'` installs what S3 needs" if is_s3 else ""


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn errors of the store at a URI inside the block into errors of one line.

    Errors about missing or existing files pass through, because callers handle them. Errors that already have one line
    pass through, too. A missing bucket does not count as a missing file.

    Args:
        uri: the URI, for messages.

    Raises:
        StoreUnreachableError: the store did not answer, or failed.
        StoreError: the bucket does not exist, the credentials do not suffice, or the URI or a setting is wrong.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError | FileExistsError) and "NoSuchBucket" not in _names(error):
            raise
        raise as_store_error(error, uri) from error


def as_store_error(error: BaseException, uri: str) -> StoreError:
    """Return an error of one line in place of an error of a store.

    Args:
        error: the error that the store's library raised.
        uri: the URI, for the message.
    """
    names = _names(error)
    text = " ".join(str(error).split()) or type(error).__name__
    if "NoSuchBucket" in names:
        return StoreError(f"{uri} cannot be used: its bucket does not exist. Correct the name, or create the bucket")
    if "NoCredentialsError" in names:
        return StoreError(
            f"{uri} cannot be used: no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, or run where a role gives them"
        )
    if names & _CREDENTIALS or isinstance(error, PermissionError):
        return StoreError(f"{uri} cannot be used: {text}. Check the credentials and what they allow")
    if names & _NAMES:
        return StoreError(f"{uri} cannot be used: {text}. Correct the URI or the settings of the store")
    return StoreUnreachableError(
        f"{uri} cannot be reached: {text}. Check the network and the store's endpoint, and run the same command again"
    )


def is_store_error(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, was raised by the library of an object store."""
    while error is not None:
        if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "aiohttp", "s3fs"):
            return True
        error = error.__cause__
    return False


def code_of(error: BaseException) -> str:
    """Return the code that S3 gave with an error, such as `PreconditionFailed`; "" if it gave none."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _names(error: BaseException | None) -> set[str]:
    """Return the class names of an error and of the errors that caused it, and the codes that S3 gave with them."""
    names = set[str]()
    while error is not None:
        names |= {type(error).__name__, code_of(error)}
        error = error.__cause__
    return names
