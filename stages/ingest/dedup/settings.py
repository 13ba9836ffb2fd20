"""What a user may set about duplicates."""

from typing import Any, Self

from pydantic import Field, model_validator

from stages.settings import PLACEMENT, Settings

NUM_HASHES = 128  # MinHashes of a document; the bands share them, the sketch keeps one bit of each
SIGNATURE_VERSION = 2  # of how words, shingles and hashes are made
# Versions whose signatures compare with today's. In version 1 the words were not folded to one normal form: a document
# that is written in that form has the same signature in both.
COMPARABLE_VERSIONS = (1, SIGNATURE_VERSION)


class DuplicateSettings(Settings):
    """What counts as a repetition. Exact ones (the same text) are always dropped."""

    near: bool = True
    """Whether near-duplicates are looked for, too. Without it the index holds nothing to compare a later arrival's
    near-duplicates with, and a text in another Unicode normal form (NFD, as macOS writes names) is another text, unless
    ``clean.repair_unicode`` makes all of them NFC."""

    similarity: float = Field(default=0.625, gt=0, le=1)
    """Estimated Jaccard similarity of two documents' shingles from which the later is dropped. The estimate of 128 bits
    has a standard deviation of 0.06 at 0.7: 0.625 keeps nine tenths of the pairs at 0.7, and a twelfth of those at 0.5
    that the bands bring up."""

    bands: int = Field(default=20, ge=1, le=NUM_HASHES)
    """Bands of the signature; documents that agree in a whole band are compared. A pair of Jaccard similarity s is
    found with probability 1 - (1 - s^rows)^bands: 0.92 at 0.7, 0.998 at 0.8 (Leskovec, Rajaraman, Ullman, Mining of
    Massive Datasets, section 3.4)."""

    rows: int = Field(default=6, ge=1, le=NUM_HASHES)
    """MinHashes in a band; bands times rows is at most 128."""

    shingle: int = Field(default=5, ge=1, le=100)
    """Consecutive words that make a shingle; 5 is common for web text (FineWeb, Penedo et al. 2024, section 3.4)."""

    seed: int = Field(default=1, ge=0, lt=2**63)
    """Of the hash functions."""

    latest_url: bool = False
    """Whether of several documents of one address in the arrival only the latest stays (by timestamp, one without
    being the oldest; of equal ones the last in input order). Against earlier datasets an address changes nothing: the
    same text is an exact duplicate, another text an update, which is kept."""

    memory_mb: int = Field(default=512, ge=16, json_schema_extra=PLACEMENT)
    """MB that one task of the search may take, beyond Python and its libraries; the search is cut into as many tasks
    as that needs."""

    @model_validator(mode="after")
    def bands_fit(self) -> Self:
        """The bands are cut from one signature."""
        if self.bands * self.rows > NUM_HASHES:
            raise ValueError(
                f"bands {self.bands} times rows {self.rows} is {self.bands * self.rows}; a signature has {NUM_HASHES}"
            )
        return self

    def signature(self) -> dict[str, Any]:
        """What two signatures must have in common to be compared."""
        return {"version": SIGNATURE_VERSION} | self.model_dump(include={"bands", "rows", "shingle", "seed"})
