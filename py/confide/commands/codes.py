"""Error codes of the command line."""

from __future__ import annotations

from confide.errors import Code, ConfigError, PolicyError, UnavailableError

CODES = {
    "bad-options": Code("The options do not fit together.", ConfigError),
    "development-manifest": Code(
        "The manifest is for development and protects nothing. Get the service's own manifest, or "
        "give --development.",
        PolicyError,
    ),
    "incomplete-options": Code("The evidence of one machine needs more options.", ConfigError),
    "io-error": Code(
        "A file cannot be read or written. Correct that and run the command again.",
        UnavailableError,
    ),
    "no-answer": Code("The model gave an empty answer.", UnavailableError),
    "no-role": Code("The role of the image is unknown. Name it with --role.", ConfigError),
    "not-evidence": Code("The options are for the evidence of one machine.", ConfigError),
    "process-ended": Code(
        "The system ended a process of this command. Run the command again.", UnavailableError
    ),
    "program-not-ready": Code("A program did not become ready. Read its log.", UnavailableError),
}
