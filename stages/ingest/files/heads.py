"""What the first bytes of a file tell: its encoding, or that it is not what its name says."""

import codecs

HEAD = 16  # bytes that are looked at
ENCODINGS = {  # by byte order mark, the longer before those they begin with
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BINARIES = {
    b"PK\x03\x04": "a zip archive (or an office document)",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"PAR1\x15": "Parquet",
    b"ARROW1\0\0": "an Arrow file",
    b"%PDF-": "PDF",
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer (git lfs pull gets its contents)",
}


def encoding_of(head: bytes) -> str | None:
    """UTF-16 or UTF-32 where a byte order mark says so."""
    return next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), None)


def binary_of(head: bytes) -> str | None:
    """What a file that should be text is instead."""
    return next((name for mark, name in BINARIES.items() if head.startswith(mark)), None)
