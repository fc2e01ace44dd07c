"""Error codes of the client."""

from __future__ import annotations

from confide.errors import (
    Code,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)

CODES = {
    "bad-api-key": Code("The API key file does not hold an API key.", ConfigError),
    "bad-corim": Code("The file is not a signed CoRIM, or cannot be signed.", FormatError),
    "bad-local-key": Code("The file of the proxy's own key does not hold a key.", ConfigError),
    "bad-receipts": Code("The folder for receipts cannot be made or written.", ConfigError),
    "bad-signing-key": Code("The signing key is not an elliptic curve key.", ConfigError),
    "body-too-large": Code("The body of the app's request is larger than the limit.", FormatError),
    "collateral-refused": Code(
        "The coordinator refuses an item of the collateral; the error says which, and why.",
        PolicyError,
    ),
    "coordinator-changed": Code(
        "Another coordinator answered than a moment ago. Run the command again.", VerificationError
    ),
    "corim-algorithm": Code("The CoRIM is signed with another kind of key.", VerificationError),
    "corim-signature": Code(
        "The CoRIM is not signed by this key. Get the signer's key again.", VerificationError
    ),
    "foreign-host": Code("The request names another host. Use a loopback address.", PolicyError),
    "foreign-origin": Code(
        "The request comes from a web page of another site, which is not allowed.", PolicyError
    ),
    "gateway-refused": Code("The gateway refused the request. Ask its operator.", UnavailableError),
    "key-just-replaced": Code(
        "The key is said to be unknown, and it is new. Try again later.", UnavailableError
    ),
    "no-release": Code(
        "The client does not have the files of its release. Install it again.", ConfigError
    ),
    "no-secret-service": Code(
        "No secret service that the gateway shows passes verification. Nothing was sent.",
        UnavailableError,
        VerificationError,
    ),
    "no-verified-worker": Code(
        "No worker is left for the model that passes verification. Try again later.",
        UnavailableError,
    ),
    "not-implemented": Code("The proxy does not have this path.", PolicyError),
    "not-loopback": Code("The proxy listens on loopback addresses only.", ConfigError),
    "receipt-not-kept": Code(
        "The folder for receipts is full or cannot be written. Correct that, or do without it.",
        UnavailableError,
    ),
    "too-few-workers": Code(
        "The gateway shows fewer workers for the model than --min-workers demands. Nothing was "
        "sent. Try again later.",
        UnavailableError,
    ),
    "unknown-task": Code("The model does not support this kind of request.", PolicyError),
    "wrong-key-id": Code(
        "The secret service took another key than the one that was sealed.", VerificationError
    ),
    "wrong-local-key": Code(
        "The app did not send the key of this proxy. Give the app the key in --local-key-file.",
        PolicyError,
    ),
}

PROXY_STATUS = {
    "wrong-local-key": 401,
    "foreign-host": 403,
    "foreign-origin": 403,
    "unknown-model": 404,
    "incomplete-body": 408,
    "body-too-large": 413,
    "not-implemented": 501,
    "not-verified": 503,
    "model-not-served": 503,
    "receipt-not-kept": 503,
    "too-few-workers": 503,
    "too-many-keys": 503,
    "kem-key-gone": 503,
    "too-many-look-ups": 503,
    "busy": 503,
}
"""What the proxy answers to an app, where the error class alone does not decide."""
