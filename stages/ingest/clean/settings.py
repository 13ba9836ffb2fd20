"""What a user may set about cleaning. By default no text is changed, and languages are detected."""

from pathlib import Path
from typing import Any, Literal

import phonenumbers
import xxhash
from pydantic import Field, field_validator, model_validator

from stages.ingest.clean.codes import CODE, UNDETERMINED, known_languages, normalise_language
from stages.settings import Settings


class CleanSettings(Settings):
    """Unicode repair, block-lists of addresses, languages, masks. A step that is off costs nothing."""

    repair_unicode: bool = False
    """Mend text that was decoded wrongly somewhere on its way ("schÃ¶n" is "schön") with ftfy, drop
    control characters, make line ends \\n and compose accents (NFC). Quotes, ligatures and full-width forms stay."""

    blocked_urls: list[str] = Field(default=[])
    """Files (.gz too) of hosts and addresses whose documents are refused, one a line: a host blocks its subdomains too,
    a host with a path blocks the addresses below it (see stages/ingest/clean/urls.py). # begins a comment."""

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
