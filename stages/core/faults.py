"""The faults of stores and disks that may pass by themselves, by the codes that they come with.

A disk gives an ``errno``. Arrow gives none for a store: the code that the store answered with is a part of its message
(``AWS Error SLOW_DOWN``, ``HTTP status 503``, ``google::cloud::Status(UNAVAILABLE``), and so it is with obstore. This
module alone reads codes out of messages, as there is no other place to have them from.
"""

import errno
import re

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # somebody may make room
PASSING = frozenset(
    {
        errno.ESTALE,  # a server of a network disk was restarted: opening the path anew finds it
        errno.EIO,
        errno.EREMOTEIO,
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
# What a store says once and for all. Every other answer may pass.
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
AGAIN = frozenset({408, 425, 429})  # of the answers 4xx, which are final otherwise
DEFINITE = (
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
)


def may_pass(error: BaseException) -> bool:
    """Whether what a disk or a store has answered may be another answer later."""
    if isinstance(error, DEFINITE):
        return False
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return number in PASSING or number in FULL
    message = str(error)
    codes = {one or other for one, other in CODES.findall(message)}
    if codes & FINAL:
        return False
    answers = [int(found) for found in STATUS.findall(message)]
    return all(answer >= 500 or answer in AGAIN for answer in answers)


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota is full."""
    return getattr(error, "errno", None) in FULL
