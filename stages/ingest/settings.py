"""What a user may set about taking in an arrival; each room of the stage has its own part.

What a user may set about which files are read, and how their records become documents.

What a user may set about cleaning. By default no text is changed, and languages are detected.

What is kept out of training because a model is judged by it.

What a user may set about duplicates.

Settings of input that comes as tokens.
"""

from pathlib import Path
from typing import Any, Literal, Self

import phonenumbers
import xxhash
from pydantic import Field, field_validator, model_validator

from rewarm.stages.core.settings import PLACEMENT, Settings
from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.language_codes import CODE, UNDETERMINED, known_languages, normalise_language


class TokenInputSettings(Settings):
    """How token files made elsewhere are taken in."""

    columns: tuple[str, ...] = Field(default=("tokens", "input_ids"), min_length=1)
    """Names of the column of ids in Arrow and Parquet files; the first one that a file has is read."""

    tokenizer: str | None = Field(default=None, json_schema_extra=PLACEMENT)
    """Folder of the tokenizer that made them; by default the lineage's."""

    canonical: bool = True
    """Refuse a document whose text the tokenizer would encode to other ids: what is trained is then exactly what came.
    False takes such documents by their text, with the ids that the tokenizer gives."""


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


class DecontaminateSettings(Settings):
    """Passages that training text shares with a guarded text are cut out (Brown et al. 2020, appendix C).

    A shared run of ``ngram`` words goes with its surroundings and the rest of the document is kept, unless many
    training documents hold the run: then it is boilerplate, such as a licence, and no sign that anything was copied.
    """

    enabled: bool = True
    """Whether training text is compared with the validation splits and the tasks at all."""

    ngram: int = Field(default=13, ge=2)
    """Words in a run that marks an overlap: 13 as for GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C).
    In Chinese and Japanese a word is a character, in Thai, Lao, Burmese and Khmer three letters."""

    min_words: int = Field(default=8, ge=2)
    """Shortest guarded text, in words. One shorter than ``ngram`` is compared as a whole; one shorter than this could
    stand in any document by chance and is only counted (8: the shortest run in Brown et al. 2020, appendix C)."""

    max_holders: int = Field(default=10, ge=1)
    """Training documents that may hold a run before it is boilerplate and stays (10 in Brown et al. 2020), those of
    earlier datasets included. If an earlier validation split or a task holds it and earlier datasets had it in no more
    training documents than that, an arrival that repeats it repeats a copy: it is cut in however many documents, if
    ``repeated_share`` allows that. What an arrival repeats of its own split is repeated alike on both sides."""

    repeated_share: float = Field(default=0.005, ge=0, le=1)
    """Share of the arrival's words that may be cut for validation splits, beyond long passages that a single document
    holds, which are cut at any share; half as much again for the surroundings. Text that would lose more repeats itself
    wherever it is held out, so less counts as copied there: of the runs those in fewer documents (down to one), of the
    passages the longer ones (up to ``long_passage`` words), and fewer surroundings (down to none)."""

    long_passage: int = Field(default=30, ge=2)
    """Words of a passage that is cut wherever a single training document shares it with a validation split."""

    surroundings: int = Field(default=34, ge=0)
    """Words cut on each side of a shared passage: as many as the passage has, at most this many. 34 words of English
    are the 200 characters of Brown et al. 2020; counted in words, it is as much in every script, but for Thai, Lao,
    Burmese and Khmer, whose letters are counted."""

    min_piece: int = Field(default=34, ge=1)
    """Words that a piece between two cuts must have to be kept (200 characters of English in Brown et al. 2020)."""

    max_cuts: int = Field(default=10, ge=0)
    """Cuts after which a document is removed as a whole (10 in Brown et al. 2020)."""

    tasks: list[str] = Field(default=[])
    """lm-eval tasks whose texts are guarded, beside those that the recipe evaluates."""

    @model_validator(mode="after")
    def _whole_texts_are_shorter(self) -> Self:
        if self.min_words > self.ngram:
            raise ValueError(
                f"min_words is {self.min_words}, ngram {self.ngram}: texts of {self.ngram} words and more are compared "
                f"by runs of {self.ngram}, so min_words can be {self.ngram} at most"
            )
        return self


class CleanSettings(Settings):
    """Unicode repair, block-lists of addresses, languages, masks. A step that is off costs nothing."""

    repair_unicode: bool = False
    """Mend text that was decoded wrongly somewhere on its way ("schÃ¶n" is "schön") with ftfy, drop
    control characters, make line ends \\n and compose accents (NFC). Quotes, ligatures and full-width forms stay."""

    blocked_urls: list[str] = Field(default=[])
    """Files (.gz too) of hosts and addresses whose documents are refused, one a line: a host blocks its subdomains too,
    a host with a path blocks the addresses below it (see stages/ingest/filters/urls.py). # begins a comment."""

    languages: list[str] = Field(default=[])
    """Languages to keep (ISO 639-1, or names as in en-US, eng, English); empty keeps all. "und" keeps also what
    is too short to tell; source code is "code"."""

    keep_code: bool = True
    """Whether source code stays when ``languages`` names some: code is in no language. Off: only if "code" is named."""

    detect_language: bool = True
    """Detect each document's language (0.1 ms at most). Off: what the record or the page says of itself stands."""

    trust_language: bool = False
    """Take a record's own language over the detected one: for datasets labelled by a better detector."""

    min_language_letters: int = Field(default=200, ge=1)
    """Letters below which detection would guess, where the script does not tell the language; such a text is "und".
    From about 200 on, a sentence or two, the detector is right for most languages."""

    min_script_letters: int = Field(default=20, ge=1)
    """Letters from which a script tells its language (Chinese, Japanese, Korean, Thai, Greek, Hebrew and others that
    one language writes; Devanagari for Hindi, Marathi, Nepali and Sanskrit), and from which code is looked for."""

    max_language_rank: int = Field(default=1200, ge=1)
    """Distance from the nearest language profile (resiliparse's out-of-place rank, less is surer) above which no
    language is taken: "values above 1200 are usually false results" (its documentation). Prose is at 250 to 700."""

    mask: list[Literal["email", "ip", "phone", "credentials"]] = Field(default=[])
    """Personal data replaced by fixed placeholders, kind by kind: addresses of people and of machines (public ones),
    telephone numbers, keys and passwords."""

    phone_region: str | None = None
    """Country (ISO 3166, as DE) whose national numbers are telephone numbers too; None takes only international ones
    (+49 …)."""

    @field_validator("languages")
    @classmethod
    def check_languages(cls, languages: list[str]) -> list[str]:
        """Languages that the detector knows, by their ISO 639-1 code, sorted."""
        special = (UNDETERMINED, CODE)
        codes = {name: name.lower() if name.lower() in special else normalise_language(name) for name in languages}
        for name, code in codes.items():
            if code not in known_languages() and code not in special:
                raise ValueError(
                    f"no language {name!r} is known; known are {', '.join(sorted(known_languages()))}, "
                    f"{', '.join(special)}"
                )
        return sorted({code for code in codes.values() if code})

    @field_validator("blocked_urls")
    @classmethod
    def check_lists(cls, paths: list[str]) -> list[str]:
        """Block-lists that are there."""
        for path in paths:
            if not Path(path).is_file():
                raise ValueError(f"{path}: no such file; blocked_urls names files of hosts and addresses")
        return paths

    @field_validator("mask")
    @classmethod
    def check_mask(cls, kinds: list[str]) -> list[str]:
        """Each kind once, in a fixed order."""
        return sorted(set(kinds))

    @field_validator("phone_region")
    @classmethod
    def check_region(cls, region: str | None) -> str | None:
        """A country of the numbering plan."""
        if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"no country {region!r} in the numbering plan; a code as DE or US is expected")
        return region

    @model_validator(mode="after")
    def check_detection(self) -> "CleanSettings":
        """An allow-list needs languages to compare."""
        if self.languages and not (self.detect_language or self.trust_language):
            raise ValueError("languages needs detect_language, or trust_language for records that state theirs")
        return self

    def identity(self) -> dict[str, Any]:
        """As of any settings, with what the block-lists say in place of where they lie."""
        lists = sorted(xxhash.xxh3_128_hexdigest(Path(path).read_bytes()) for path in self.blocked_urls)
        return {**super().identity(), "blocked_urls": lists}


class StorageSettings(Settings):
    """How object stores are reached, where a path's own query (``s3://bucket/x?endpoint_override=…``) says nothing."""

    endpoint: str | None = Field(default=None, pattern=r"^(https?://)?[^/?#\s]+/?$", json_schema_extra=PLACEMENT)
    """Host and port that stand in for Amazon's or Google's, such as ``http://localhost:9000``; https where no scheme
    is given."""

    anonymous: bool = Field(default=False, json_schema_extra=PLACEMENT)
    """Read public buckets without credentials; else those of the environment are used."""

    region: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Region of the S3 buckets; by default it is asked of the bucket."""


class InputSettings(Settings):
    """Which files are read, and the names of the fields; fields of a record that are not named here are ignored."""

    text: str = Field(default="text", min_length=1)
    """Field (JSON) or column (CSV, TSV, Parquet, Arrow) that holds a document's text."""

    url: str = Field(default="url", min_length=1)
    """Field of the document's address; empty in the shard where a record has none. A text file's is its name."""

    title: str = Field(default="title", min_length=1)
    """Field of the document's title."""

    timestamp: str = Field(default="timestamp", min_length=1)
    """Field of the document's time: ISO 8601, or a Unix time in s, ms, µs or ns; empty where it is neither."""

    language: str = Field(default="language", min_length=1)
    """Field of the document's language code."""

    source: str = Field(default="source", min_length=1)
    """Field of the name of the collection that a document comes from."""

    format: Literal[
        "auto",
        "jsonl",
        "csv",
        "tsv",
        "parquet",
        "arrow",
        "text",
        "warc",
        "wet",
        "html",
        "megatron",
        "datatrove",
        "tokens",
    ] = "auto"
    """Format of all files, whatever their names end in; by default the suffixes decide. A compression is always told
    by the suffix. ``tokens`` are Arrow or Parquet files with a column of token ids in the place of text."""

    max_record_bytes: int = Field(default=64 * 2**20, ge=1)
    """Longest line, text file or page, in bytes (64 MiB); a longer one goes to quarantine and never into memory."""

    max_document_bytes: int | None = Field(default=None, ge=1024)
    """Longest document, in bytes of its text in UTF-8; by default any that ``max_record_bytes`` lets in."""

    oversized: Literal["refuse", "split"] = "refuse"
    """What becomes of a document above ``max_document_bytes``: quarantine, or several documents, cut between
    paragraphs where there are any."""

    max_expansion: float = Field(default=1000, gt=1)
    """Most bytes out for a byte in when decompressing, counted once a file has given 256 MiB; beyond it the rest of the
    file is refused as a decompression bomb. Text packs 3 to 10 times, and gzip can never pass 1032."""

    max_file_bytes: int | None = Field(default=None, ge=1)
    """Most bytes a compressed file may give; the rest is refused as a decompression bomb. By default the ratio alone
    decides, since real dumps have files of any size."""

    shard_bytes: int = Field(default=128 * 2**20, ge=1)
    """Bytes of input that make one shard of work (128 MiB): minutes at most to do again after a failure, and far more
    than starting a task costs. A file that can be cut is; small ones are put together."""

    within: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """Folder that no link, and no ``..`` of a manifest, may lead out of: what does is not read, and is named. Null:
    links are followed. ``rewarm watch`` sets it to the inbox."""

    manifest_prefix: str | None = Field(default=None, min_length=1, json_schema_extra=PLACEMENT)
    """What stands before a manifest's relative paths, such as ``https://data.commoncrawl.org``; by default the folder
    that the manifest lies in."""

    storage: StorageSettings = Field(default=StorageSettings(), json_schema_extra=PLACEMENT)
    """How object stores are reached."""

    @model_validator(mode="after")
    def check_document_limit(self) -> Self:
        """A document comes from one record."""
        limit = self.max_document_bytes
        if limit is not None and limit > self.max_record_bytes:
            raise ValueError(
                f"max_document_bytes ({limit}) is above max_record_bytes ({self.max_record_bytes}), "
                "so it would refuse nothing; lower it, or raise max_record_bytes"
            )
        return self

    def columns(self) -> set[str]:
        """The fields of a record that are read."""
        return {self.text, self.title, self.url, self.timestamp, self.language, self.source}


class IngestSettings(InputSettings):
    """Which files are read and how, what a document must be, and the validation split."""

    tokens: TokenInputSettings = TokenInputSettings()
    """Files of tokens."""

    clean: CleanSettings = CleanSettings()
    """Languages, block-lists, repair and masks."""

    rules: RulesSettings = RulesSettings()
    """Quality rules; none by default."""

    duplicates: DuplicateSettings = DuplicateSettings()
    """Duplicates, exact and near, in the arrival and against everything before."""

    decontaminate: DecontaminateSettings = DecontaminateSettings()
    """What may not come up in training text."""

    validation_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out, chosen by content hash: a document is validation or not wherever it turns up."""

    validation_cap: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the documents up to which the validation split is grown if ``validation_share`` of them are too few for
    the gate to see its limits; not above ``validation_share``: it is not grown."""

    max_removed: float = Field(default=0.5, ge=0, le=1, json_schema_extra=PLACEMENT)
    """Share of the documents, or of their bytes, that one step may remove of what comes into it; an arrival that loses
    more is refused before it is trained. Duplicates may go without limit, and so may the images and redirects of a web
    archive. It accepts or refuses and changes nothing of the result."""

    lost_shards: int = Field(default=0, ge=0)
    """Shards that may be missing, as their files could not be read in three attempts; an arrival with more is refused
    as a whole."""

    @model_validator(mode="after")
    def _addresses_are_whole(self) -> Self:
        if self.duplicates.latest_url and self.oversized == "split":
            raise ValueError(
                "duplicates.latest_url keeps one document of an address, oversized=split makes several of it: "
                "choose one of the two"
            )
        return self
