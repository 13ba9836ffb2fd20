"""What becomes of a row, and why one is dropped: the values of the ``.fates`` files."""

from enum import IntEnum

from stages.split import DROP, TRAIN, VALIDATE


class Fate(IntEnum):
    """A row's fate. A drop is counted under one reason: the first of these that holds, in the order of ``ORDER``."""

    DROP = DROP  # for another reason than repetition
    TRAIN = TRAIN
    VALIDATE = VALIDATE
    DUPLICATE = 3  # an earlier row of the arrival has the same text
    NEAR = 4  # a kept earlier row of the arrival has nearly the same
    EARLIER_EXACT = 5  # an earlier dataset has the same text
    EARLIER_NEAR = 6  # an earlier dataset has nearly the same
    OLDER_URL = 7  # the arrival has a later version of the address


ORDER = (Fate.OLDER_URL, Fate.DUPLICATE, Fate.EARLIER_EXACT, Fate.EARLIER_NEAR, Fate.NEAR)
REASONS = {  # as reports name them
    Fate.OLDER_URL: "older version of the address",
    Fate.DUPLICATE: "duplicate inside",
    Fate.EARLIER_EXACT: "already in an earlier dataset",
    Fate.EARLIER_NEAR: "near-duplicate of an earlier dataset",
    Fate.NEAR: "near-duplicate inside",
}
