"""Account of an arrival, step by step: documents and bytes in and out, reasons, and statistics of the text.

Every shard has its own account; the arrival's is their sum, so it does not depend on the order or number of workers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, Self, runtime_checkable

from typing_extensions import TypedDict

from rewarm.stages.core.shapes import OPEN
from rewarm.stages.ingest.filters.urls import host_of
from rewarm.stages.ingest.records import Document, Refusal

READ = "read"
DOMAINS_A_SHARD = 1000  # most frequent hosts kept per shard, so that an account stays small
DOMAINS_SHOWN = 100
QUALITY_BINS = 20  # of equal width, for qualities from 0 to 1


@runtime_checkable
class PartialStep(Protocol):
    """Step with parts that do not apply to every document."""

    name: str

    def not_applied(self, document: Document) -> list[str]:
        """Return the names of the parts that do not apply to a document."""


class StepRecord(TypedDict):
    """Entry of ``account.json`` for one step."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    name: str
    documents_in: int
    documents_out: int
    bytes_in: int
    bytes_out: int
    reasons: dict[str, int]
    not_applied: NotRequired[dict[str, int]]
    passed_over: NotRequired[dict[str, int]]


class AccountRecord(TypedDict):
    """Contents of ``account.json`` for a dataset."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    steps: list[StepRecord]
    languages: dict[str, int]
    domains: dict[str, int]
    lengths: dict[str, int]
    qualities: dict[str, int]
    earlier: dict[str, dict[str, int]]
    decontaminated: dict[str, int]
    lost: list[dict[str, Any]]


@dataclass
class StepAccount:
    """Documents and bytes into and out of one step; bytes of UTF-8 text, or of the files for the reading step."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    not_applied: Counter[str] = field(default_factory=Counter)  # parts of a rule that did not apply to some documents
    passed_over: Counter[str] = field(default_factory=Counter)  # records that are not expected to be documents

    def count(self, entered: int, left: int | None, reason: str = "") -> None:
        """Count one document that entered with ``entered`` bytes, and left with ``left`` or was refused for
        ``reason``."""
        self.documents_in += 1
        self.bytes_in += entered
        if left is None:
            self.reasons[reason] += 1
        else:
            self.documents_out += 1
            self.bytes_out += left

    def add(self, other: "StepAccount") -> None:
        """Sum up."""
        self.documents_in += other.documents_in
        self.documents_out += other.documents_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.reasons.update(other.reasons)
        self.not_applied.update(other.not_applied)
        self.passed_over.update(other.passed_over)

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the account as JSON types, the most frequent reason first."""
        ordered, spared, passed = (
            dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
            for counts in (self.reasons, self.not_applied, self.passed_over)
        )
        return {
            "name": name,
            "documents_in": self.documents_in,
            "documents_out": self.documents_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "reasons": ordered,
            **({"not_applied": spared} if spared else {}),
            **({"passed_over": passed} if passed else {}),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Restore the object from its JSON form."""
        return cls(
            **{name: value[name] for name in ("documents_in", "documents_out", "bytes_in", "bytes_out")},
            reasons=Counter(value["reasons"]),
            not_applied=Counter(value.get("not_applied", {})),
            passed_over=Counter(value.get("passed_over", {})),
        )


@dataclass
class Account:
    """Accounts of all steps in order, and statistics of the documents."""

    steps: dict[str, StepAccount]
    languages: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)  # by k, for 2**k to less than 2**(k+1) bytes
    qualities: Counter[int] = field(default_factory=Counter)  # by twentieths

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Return an empty account of these steps."""
        return cls({name: StepAccount() for name in names})

    def follow(self, record: Document | Refusal, steps: Sequence[Any]) -> Document | Refusal:
        """Apply the steps to a record and count; return the resulting document, or the first refusal."""
        if isinstance(record, Refusal):
            self.steps[READ].count(0, None, str(record.reason))
            return record
        size = len(record.text.encode())
        self.steps[READ].count(0, size)
        for step in steps:
            result: Document | Refusal = step(record)
            if isinstance(step, PartialStep):
                self.steps[step.name].not_applied.update(step.not_applied(record))
            if isinstance(result, Refusal):
                self.steps[step.name].count(size, None, result.reason)
                return result
            left = size if result.text is record.text else len(result.text.encode())
            self.steps[step.name].count(size, left)
            record, size = result, left
        return record

    def describe(self, documents: Iterable[tuple[str | None, str | None, int, float | None]]) -> None:
        """Count the kept documents by language, host, bytes and quality."""
        for language, url, num_bytes, quality in documents:
            self.languages[language or "unknown"] += 1
            self.lengths[max(num_bytes, 1).bit_length() - 1] += 1
            if domain := host_of(url):
                self.domains[domain] += 1
            if quality is not None:
                self.qualities[min(int(quality * QUALITY_BINS), QUALITY_BINS - 1)] += 1

    def add(self, other: "Account") -> None:
        """Add another account; steps that only the other has are appended."""
        for name, step in other.steps.items():
            self.steps.setdefault(name, StepAccount()).add(step)
        for mine, theirs in (
            (self.languages, other.languages),
            (self.domains, other.domains),
            (self.lengths, other.lengths),
            (self.qualities, other.qualities),
        ):
            mine.update(theirs)  # type: ignore[arg-type]

    @property
    def refused(self) -> Counter[str]:
        """Refusals of all steps by reason."""
        return sum((step.reasons for step in self.steps.values()), Counter[str]())

    def to_json(self, domains: int = DOMAINS_A_SHARD) -> dict[str, Any]:
        """Return the account as JSON types, with only the most frequent hosts."""
        hosts = sorted(self.domains.items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "steps": [step.to_json(name) for name, step in self.steps.items()],
            "languages": dict(sorted(self.languages.items(), key=lambda pair: (-pair[1], pair[0]))),
            "domains": dict(hosts[:domains]),
            "lengths": {str(power): self.lengths[power] for power in sorted(self.lengths)},
            "qualities": {str(part): self.qualities[part] for part in sorted(self.qualities)},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Restore the object from its JSON form."""
        return cls(
            {step["name"]: StepAccount.from_json(step) for step in value["steps"]},
            Counter(value["languages"]),
            Counter(value["domains"]),
            Counter({int(power): count for power, count in value["lengths"].items()}),
            Counter({int(part): count for part, count in value["qualities"].items()}),
        )
