"""Temporary faults of stores and disks, recognised by their error codes.

A disk's error has an ``errno``. A store's error has none in Arrow and obstore: the store's code is part of the message
(``AWS Error SLOW_DOWN``, ``HTTP status 503``, ``google::cloud::Status(UNAVAILABLE``). Only this module parses codes
from messages, because they are not available otherwise.
"""

import errno
import re

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # space may be freed
DISK = FULL | {
    errno.ESTALE,  # the server of a network disk was restarted: reopening the path works
    errno.EIO,
    errno.EREMOTEIO,
}
PASSING = frozenset(
    {
        *DISK,
        errno.EINTR,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.ENOLINK,
    }
)
# Permanent errors of a store. All others may be temporary.
FINAL = frozenset(
    {
        # Amazon's client (aws-cpp-sdk, CoreErrors and S3Errors)
        *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH"),
        *(
            "INVALID_SIGNATURE",
            "MISSING_AUTHENTICATION_TOKEN",
            "UNRECOGNIZED_CLIENT",
            "ACCOUNT_PROBLEM",
            "OPT_IN_REQUIRED",
        ),
        *("NO_SUCH_BUCKET", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "NO_SUCH_UPLOAD", "METHOD_NOT_ALLOWED"),
        *("BUCKET_ALREADY_EXISTS", "INVALID_ACTION", "INVALID_PARAMETER_VALUE", "VALIDATION"),
        # Google's client (google::cloud::StatusCode)
        *(
            "PERMISSION_DENIED",
            "UNAUTHENTICATED",
            "NOT_FOUND",
            "INVALID_ARGUMENT",
            "FAILED_PRECONDITION",
            "UNIMPLEMENTED",
        ),
    }
)
CODES = re.compile(r"AWS Error ([A-Z_0-9]+)|google::cloud::Status\(([A-Z_]+)")
STATUS = re.compile(r"(?:HTTP status |status |status code: )(\d{3})\b")
AGAIN = frozenset({408, 425, 429})  # temporary among the 4xx responses
DEFINITE = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)


def may_pass(error: BaseException) -> bool:
    """Return whether an error of a disk or a store may be temporary."""
    if isinstance(error, DEFINITE):
        return False
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number in PASSING
    message = str(error)
    codes = {one or other for one, other in CODES.findall(message)}
    if codes & FINAL:
        return False
    answers = [int(found) for found in STATUS.findall(message)]
    return all(answer >= 500 or answer in AGAIN for answer in answers)


def is_full(error: BaseException) -> bool:
    """Return whether the error means that a disk or a quota is full."""
    return getattr(error, "errno", None) in FULL
