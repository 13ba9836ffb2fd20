"""Settings of the ingest stage: input files and fields, cleaning, duplicates, decontamination, tokenized input.

By default no text is changed, and languages are detected.
"""

from pathlib import Path
from typing import Any, Literal, Self

import xxhash
from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings
from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.language_codes import CODE, UNDETERMINED, known_languages, normalise_language


class TokenInputSettings(Settings):
    """Settings for input that is already tokenized."""

    columns: tuple[str, ...] = Field(default=("tokens", "input_ids"), min_length=1)
    """Names of the column of token ids in Arrow and Parquet files; the first one that exists in a file is read."""

    tokenizer: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Folder of the tokenizer that produced the ids; by default the lineage's."""

    canonical: bool = True
    """Refuse a document if the tokenizer would encode its text to different ids, so that training sees exactly the ids
    in the input. If false, such documents are ingested as text and encoded again by the tokenizer."""


NUM_HASHES = 128  # MinHashes per document; the bands share them, the sketch keeps one bit of each
SIGNATURE_VERSION = 3  # of the definition of words, shingles and hashes
# Versions whose signatures can be compared with the current one. Version 1 did not normalise the words, version 2 kept
# zero-width spaces in Khmer and the like, and the Arabic tatweel; a text without them has the same in all.
COMPARABLE_VERSIONS = (1, 2, SIGNATURE_VERSION)


class DuplicateSettings(Settings):
    """Settings for duplicates. Exact duplicates are always dropped: the same text but for the Unicode normal form,
    invisible characters such as soft hyphens, and HTML entities."""

    near: bool = True
    """Whether to drop near-duplicates, too. If false, the index stores no signatures, so near-duplicates in later
    arrivals cannot be detected either."""

    similarity: float = Field(default=0.625, gt=0, le=1)
    """Estimated Jaccard similarity of two documents' shingles at or above which the later document is dropped. The
    128-bit estimate has a standard deviation of 0.06 at a similarity of 0.7: a threshold of 0.625 detects 90% of the
    pairs at 0.7, and 8% of the candidate pairs at 0.5."""

    bands: int = Field(default=20, ge=1, le=NUM_HASHES)
    """Bands of the signature; documents that agree in a whole band are compared. A pair with Jaccard similarity s is
    detected with probability 1 - (1 - s^rows)^bands: 0.92 at 0.7, 0.998 at 0.8 (Leskovec, Rajaraman, Ullman, Mining of
    Massive Datasets, section 3.4)."""

    rows: int = Field(default=6, ge=1, le=NUM_HASHES)
    """MinHashes per band; bands times rows is at most 128."""

    shingle: int = Field(default=5, ge=1, le=100)
    """Consecutive words per shingle; 5 is common for web text (FineWeb, Penedo et al. 2024, section 3.4)."""

    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the hash functions."""

    latest_url: bool = False
    """Whether to keep only the latest of several documents in the arrival that have the same URL (by timestamp;
    documents without one count as oldest; ties go to the last in input order). URLs are not compared with earlier
    datasets: there, the same text is an exact duplicate, and a different text is an update, which is kept."""

    memory_mb: int = Field(default=512, ge=16, json_schema_extra=PLACEMENT)
    """Memory limit in MB of one task of the duplicate search, excluding Python and its libraries; the search is split
    into as many tasks as this requires."""

    @model_validator(mode="after")
    def bands_fit(self) -> Self:
        """Refuse bands that need more hashes than a signature has."""
        if self.bands * self.rows > NUM_HASHES:
            raise ValueError(
                f"bands {self.bands} times rows {self.rows} is {self.bands * self.rows}; a signature has {NUM_HASHES}"
            )
        return self

    def signature(self) -> dict[str, Any]:
        """Return the settings that two signatures must share to be comparable."""
        return {"version": SIGNATURE_VERSION} | self.model_dump(include={"bands", "rows", "shingle", "seed"})


class DecontaminateSettings(Settings):
    """Settings for decontamination: passages shared with held-out text are cut (Brown et al. 2020, appendix C).

    A shared run of ``ngram`` words is cut with its surroundings and the rest of the document is kept. A run that occurs
    in many training documents is boilerplate, such as a licence, not evidence of copying, and is kept.
    """

    enabled: bool = True
    """Whether to compare training text with the validation splits and the evaluation tasks."""

    ngram: int = Field(default=13, ge=2)
    """Length in words of a shared run that counts as an overlap: 13 as for GPT-3 (Brown et al. 2020, arXiv 2005.14165,
    appendix C). In Chinese and Japanese a word is one character; in Thai, Lao, Burmese and Khmer, three letters."""

    min_words: int = Field(default=8, ge=2)
    """Shortest guarded text, in words. A text shorter than ``ngram`` is compared as a whole; a text shorter than this
    could occur in any document by chance and is only counted (8: the shortest run in Brown et al. 2020, appendix C)."""

    max_holders: int = Field(default=10, ge=1)
    """Number of training documents, those of earlier datasets included, that may contain a run; a run in more documents
    is boilerplate and kept (10 in Brown et al. 2020). Exception: if the run occurs in an earlier validation split or a
    task, and in at most this many training documents of earlier datasets, an arrival that repeats it repeats a copy: it
    is cut in any number of documents, within ``repeated_share``. Text shared with the arrival's own split is repeated
    equally on both sides."""

    repeated_share: float = Field(default=0.005, ge=0, le=1)
    """Share of the arrival's words that may be cut for validation splits, plus half as much for the surroundings. Long
    passages that occur in a single document are cut in addition, without limit. Text that would lose more repeats
    itself whatever is held out, so less of it counts as copied: only runs in fewer documents (down to one), only longer
    passages (up to ``long_passage`` words), and fewer surroundings (down to none)."""

    long_passage: int = Field(default=30, ge=2)
    """Length in words from which a passage that a single training document shares with a validation split is always
    cut."""

    surroundings: int = Field(default=34, ge=0)
    """Maximum number of words cut on each side of a shared passage; up to this limit, as many as the passage has. 34
    English words are the 200 characters of Brown et al. 2020; a count of words means the same amount of text in every
    script except Thai, Lao, Burmese and Khmer, for which letters are counted."""

    min_piece: int = Field(default=34, ge=1)
    """Shortest piece of a document that is kept after cutting, in words (200 characters of English in Brown et al.
    2020)."""

    max_cuts: int = Field(default=10, ge=0)
    """Number of cuts above which the whole document is removed (10 in Brown et al. 2020)."""

    tasks: list[str] = Field(default=[])
    """lm-eval tasks to guard in addition to those that the recipe evaluates."""

    @model_validator(mode="after")
    def _whole_texts_are_shorter(self) -> Self:
        if self.min_words > self.ngram:
            raise ValueError(
                f"min_words is {self.min_words}, ngram {self.ngram}: texts of {self.ngram} words and more are compared "
                f"by runs of {self.ngram}, so min_words can be {self.ngram} at most"
            )
        return self


class CleanSettings(Settings):
    """Settings for cleaning: Unicode repair, URL block-lists, languages, masks. A disabled step costs nothing."""

    repair_unicode: bool = False
    """Repair wrongly decoded text ("schÃ¶n" for "schön") with ftfy, remove control characters, normalise line ends to
    \\n and compose accents (NFC). Quotes, ligatures and full-width forms are kept."""

    blocked_urls: list[str] = Field(default=[])
    """Files (optionally .gz) that list blocked hosts and URLs, one per line. A host also blocks its subdomains; a host
    with a path blocks all URLs below it (see stages/ingest/filters/urls.py). # starts a comment."""

    languages: list[str] = Field(default=[])
    """Languages to keep (ISO 639-1 codes, or labels such as en-US, eng, English); empty keeps all. "und" also keeps
    text whose language cannot be determined; source code is "code"."""

    keep_code: bool = True
    """Whether to keep source code, which is in no language, when ``languages`` is set. If false, code is kept only if
    ``languages`` includes "code"."""

    detect_language: bool = True
    """Detect each document's language (at most 0.1 ms per document). If false, the language given by the record or the
    page is used."""

    trust_language: bool = False
    """Prefer a record's own language label to the detected language: for datasets labelled by a better detector."""

    min_language_letters: int = Field(default=200, ge=1)
    """Minimum number of letters for detection if the script does not determine the language; a shorter text is "und".
    From about 200 letters (one or two sentences), the detector is reliable for most languages."""

    min_script_letters: int = Field(default=20, ge=1)
    """Minimum number of letters for detection by script (Chinese, Japanese, Korean, Thai, Greek, Hebrew and other
    scripts of a single language; Devanagari for Hindi, Marathi, Nepali and Sanskrit) and for detection of code."""

    max_language_rank: int = Field(default=1200, ge=1)
    """Maximum distance from the nearest language profile (resiliparse's out-of-place rank; lower is more certain).
    Above it the language is "und": "values above 1200 are usually false results" (its documentation). Prose scores 250
    to 700."""

    mask: list[Literal["email", "ip", "phone", "credentials"]] = Field(default=[])
    """Kinds of personal data to replace with fixed placeholders: email addresses, public IP addresses, telephone
    numbers, keys and passwords."""

    phone_region: str | None = None
    """Country (ISO 3166 code, such as DE) whose national number format is recognised as telephone numbers, too; None
    recognises only international numbers (+49 …)."""

    @field_validator("languages")
    @classmethod
    def check_languages(cls, languages: list[str]) -> list[str]:
        """Return the languages as sorted ISO 639-1 codes; refuse those that the detector does not know."""
        special = (UNDETERMINED, CODE)
        codes = {name: name.lower() if name.lower() in special else normalise_language(name) for name in languages}
        for name, code in codes.items():
            if code not in known_languages() and code not in special:
                raise ValueError(
                    f"unknown language {name!r}; expected one of {', '.join(sorted(known_languages()))}, "
                    f"{', '.join(special)}"
                )
        return sorted({code for code in codes.values() if code})

    @field_validator("blocked_urls")
    @classmethod
    def check_lists(cls, paths: list[str]) -> list[str]:
        """Refuse block-lists that do not exist."""
        for path in paths:
            if not Path(path).is_file():
                raise ValueError(f"{path}: no such file; blocked_urls expects files that list hosts and URLs")
        return paths

    @field_validator("mask")
    @classmethod
    def check_mask(cls, kinds: list[str]) -> list[str]:
        """Return each kind once, in a fixed order."""
        return sorted(set(kinds))

    @field_validator("phone_region")
    @classmethod
    def check_region(cls, region: str | None) -> str | None:
        """Refuse a country that is not in the numbering plan."""
        if region is None:
            return None
        import phonenumbers

        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"unknown country {region!r}; expected an ISO 3166 code such as DE or US")
        return region

    @model_validator(mode="after")
    def check_detection(self) -> "CleanSettings":
        """Refuse an allow-list of languages if documents have no language to compare."""
        if self.languages and not (self.detect_language or self.trust_language):
            raise ValueError("languages requires detect_language, or trust_language for records with a language field")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the identity of the settings, with the block-lists' contents instead of their paths."""
        lists = sorted(xxhash.xxh3_128_hexdigest(Path(path).read_bytes()) for path in self.blocked_urls)
        return {**super().identity(), "blocked_urls": lists}


class StorageSettings(Settings):
    """Access to object stores; options in a path's query (``s3://bucket/x?endpoint_override=…``) take precedence."""

    endpoint: str | None = Field(default=None, pattern=r"^(https?://)?[^/?#\s]+/?$", json_schema_extra=PLACEMENT)
    """Host and port to use instead of Amazon's or Google's, such as ``http://localhost:9000``; https if no scheme is
    given."""

    anonymous: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Read public buckets without credentials; if false, credentials from the environment are used."""

    region: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Region of the S3 buckets; by default it is looked up for each bucket."""


class InputSettings(Settings):
    """Settings for reading input files. Fields of a record that are not named here are ignored."""

    text: str = Field(default="text", min_length=1)
    """Field (JSON) or column (CSV, TSV, Parquet, Arrow) with the document's text."""

    url: str = Field(default="url", min_length=1)
    """Field with the document's URL; empty in the shard if a record has none. For a text file it is the file name."""

    title: str = Field(default="title", min_length=1)
    """Field with the document's title."""

    timestamp: str = Field(default="timestamp", min_length=1)
    """Field with the document's time: ISO 8601, or a Unix time in s, ms, µs or ns; other values are left empty."""

    language: str = Field(default="language", min_length=1)
    """Field with the document's language code."""

    source: str = Field(default="source", min_length=1)
    """Field with the name of the collection that the document comes from."""

    format: str = "auto"
    """Format of all files, regardless of suffix: a name from docs/data.md. ``auto``: determined by the suffix. The
    compression is always determined by the suffix. ``tokens`` are Arrow or Parquet files with a column of token ids
    instead of text."""

    max_record_bytes: int = Field(default=64 * 2**20, ge=1)
    """Longest line, text file or page, in bytes (64 MiB); longer records are quarantined without being loaded into
    memory."""

    max_document_bytes: int | None = Field(default=None, ge=1024)
    """Longest document, in bytes of UTF-8 text; by default limited only by ``max_record_bytes``."""

    oversized: Literal["refuse", "split"] = "refuse"
    """Treatment of documents longer than ``max_document_bytes``: quarantine them, or split them into several documents,
    between paragraphs if possible."""

    max_expansion: float = Field(default=1000, gt=1)
    """Maximum ratio of decompressed to compressed bytes, checked after the first 256 MiB of a file; above it the rest
    of the file is refused as a decompression bomb. Text compresses 3 to 10 times; gzip cannot exceed 1032."""

    max_file_bytes: int | None = Field(default=None, ge=1)
    """Maximum decompressed size of a file in bytes; the rest is refused as a decompression bomb. By default only the
    ratio is limited, because files of real dumps can have any size."""

    shard_bytes: int = Field(default=128 * 2**20, ge=1)
    """Bytes of input per shard (128 MiB): at most minutes of processing to repeat after a failure, and far more than
    the cost of starting a task. Large files are split if their format allows it; small files are grouped."""

    within: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Folder that input files must be inside: links, and ``..`` in manifests, that lead out of it are not followed but
    reported. Null: all links are followed. ``rewarm watch`` sets it to the inbox."""

    manifest_prefix: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Prefix for relative paths in a manifest, such as ``https://data.commoncrawl.org``; by default the manifest's
    folder."""

    storage: StorageSettings = Field(default=StorageSettings(), json_schema_extra=PLACEMENT)
    """Access to object stores."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        from rewarm.stages.ingest.readers import FORMATS  # whose modules read with these settings

        if name not in ("auto", *FORMATS):
            raise ValueError(f"expected auto or one of {', '.join(FORMATS)}")
        return name

    @model_validator(mode="after")
    def check_document_limit(self) -> Self:
        """Refuse a document limit above the record limit, because a document comes from a single record."""
        limit = self.max_document_bytes
        if limit is not None and limit > self.max_record_bytes:
            raise ValueError(
                f"max_document_bytes ({limit}) is above max_record_bytes ({self.max_record_bytes}), "
                "so it would have no effect; lower it, or raise max_record_bytes"
            )
        return self

    def columns(self) -> set[str]:
        """Return the names of the fields that are read from a record."""
        return {self.text, self.title, self.url, self.timestamp, self.language, self.source}


class IngestSettings(InputSettings):
    """Settings of the ingest stage: reading, filters, duplicates, decontamination and the validation split."""

    tokens: TokenInputSettings = TokenInputSettings()
    """Tokenized input."""

    clean: CleanSettings = CleanSettings()
    """Unicode repair, URL block-lists, languages and masks."""

    rules: RulesSettings = RulesSettings()
    """Quality rules; none by default."""

    duplicates: DuplicateSettings = DuplicateSettings()
    """Exact and near-duplicates, within the arrival and against all earlier datasets."""

    decontaminate: DecontaminateSettings = DecontaminateSettings()
    """Removal of held-out text from training text."""

    validation_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out for validation, chosen by content hash, so that the same document always belongs
    to the same split."""

    validation_cap: float = Field(default=0.1, ge=0, le=0.5)
    """Maximum share of the documents held out for validation: the split grows up to this share if ``validation_share``
    gives too few documents for the gate to resolve its limits. If it is not above ``validation_share``, the split does
    not grow."""

    max_removed: float = Field(default=0.5, ge=0, le=1, json_schema_extra=PLACEMENT)
    """Maximum share of its input documents, or of their bytes, that a single step may remove; an arrival that loses
    more is refused before training. Duplicates, and the images and redirects of a web archive, are not limited. The
    setting decides only whether the arrival is accepted and does not change the result."""

    lost_shards: int = Field(default=0, ge=0)
    """Number of shards that may be missing because their files could not be read in three attempts; if more are
    missing, the whole arrival is refused."""

    @model_validator(mode="after")
    def _addresses_are_whole(self) -> Self:
        if self.duplicates.latest_url and self.oversized == "split":
            raise ValueError(
                "duplicates.latest_url keeps one document per URL, but oversized=split creates several documents with "
                "the same URL: use only one of them"
            )
        return self
