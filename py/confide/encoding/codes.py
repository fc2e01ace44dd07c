"""Error codes of encodings and files."""

from __future__ import annotations

from confide.errors import Code, ConfigError, FormatError

CODES = {
    "bad-cbor": Code("The bytes are not CBOR, or they hold too many values.", FormatError),
    "bad-certificate": Code(
        "The bytes are not a certificate, or not one of the expected kind.", FormatError
    ),
    "bad-field": Code("A field of a message has a wrong type or value.", FormatError),
    "bad-hex": Code("A text is not hexadecimal, or not of the expected size.", FormatError),
    "bad-json": Code("The bytes are not JSON.", FormatError),
    "bad-name": Code("A text is not a valid name.", FormatError),
    "bad-pem": Code("The text is not PEM, or holds none of the expected items.", FormatError),
    "bad-type": Code("A value has a type or a size that its encoding does not allow.", FormatError),
    "missing-field": Code("A message lacks a field.", FormatError),
    "not-canonical": Code("The bytes are not the canonical encoding of their value.", FormatError),
    "too-deep": Code("A value nests too deep.", FormatError),
    "too-large": Code("The data is larger than the limit.", FormatError, ConfigError),
    "unknown-field": Code("A message has a field that is not defined.", FormatError),
    "unreadable-file": Code(
        "A file cannot be read. Check its path, size and permissions.", ConfigError
    ),
    "unsafe-file": Code(
        "Other users may read or write a file that has to be safe from them. Change its owner "
        "or its mode.",
        ConfigError,
    ),
    "unwritable-file": Code(
        "A file cannot be written. Check its folder, permissions and free space.", ConfigError
    ),
}
