"""A second implementation of docs/protocol.md that shares no code with the package.

It imports nothing of `confide`. It is as plain as can be, and checks nothing that a real reader
must check: its only use is to compute the test vectors again.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def cbor(value: Any) -> bytes:
    """Deterministic CBOR, RFC 8949 section 4.2.1."""
    if value is None or value is True or value is False:
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
    if isinstance(value, bytes):
        return _cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return _cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _cbor_head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
    return _cbor_head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


def _cbor_head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | code]) + argument.to_bytes(size, "big")
    raise ValueError("too large")


def uncbor(data: bytes) -> Any:
    value, rest = _uncbor(data)
    assert not rest
    return value


def _uncbor(data: bytes) -> tuple[Any, bytes]:
    major, argument, data = data[0] >> 5, data[0] & 31, data[1:]
    if major == 7:
        return {20: False, 21: True, 22: None}[argument], data
    if argument >= 24:
        size = 1 << argument - 24
        argument, data = int.from_bytes(data[:size], "big"), data[size:]
    if major in (0, 1):
        return (argument if major == 0 else -1 - argument), data
    if major == 2:
        return data[:argument], data[argument:]
    if major == 3:
        return data[:argument].decode(), data[argument:]
    items = []
    for _ in range(argument * (major - 3)):
        item, data = _uncbor(data)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2], strict=True))), data


def canonical_json(value: Any, indent: str = "\n") -> str:
    """Canonical JSON without the final newline."""
    deeper = indent + "  "
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(_json_character(c) for c in value) + '"'
    if isinstance(value, list):
        inner = [canonical_json(item, deeper) for item in value]
        brackets = "[]"
    else:
        inner = [
            canonical_json(key) + ": " + canonical_json(value[key], deeper) for key in sorted(value)
        ]
        brackets = "{}"
    if not inner:
        return brackets
    return brackets[0] + deeper + ("," + deeper).join(inner) + indent + brackets[1]


def _json_character(character: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    short |= {"\b": "\\b", "\f": "\\f"}
    if character in short:
        return short[character]
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def hkdf(key: bytes, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA256, RFC 5869."""
    return hkdf_expand(hkdf_extract(salt, key), info, size)


def hkdf_extract(salt: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), key, "sha256")


def hkdf_expand(pseudorandom_key: bytes, info: bytes, size: int) -> bytes:
    output = block = b""
    counter = 1
    while len(output) < size:
        block = hmac.digest(pseudorandom_key, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:size]


def hpke_open(
    mlkem_seed: bytes, x25519_private: bytes, enc: bytes, ciphertext: bytes, info: bytes
) -> bytes:
    """HPKE base mode (RFC 9180) with X-Wing, HKDF-SHA256 and AES-256-GCM; one message, no AAD."""
    mlkem_ciphertext, ephemeral = enc[:1088], enc[1088:]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed)
    x25519 = X25519PrivateKey.from_private_bytes(x25519_private)
    shared = hashlib.sha3_256(
        mlkem.decapsulate(mlkem_ciphertext)
        + x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        + ephemeral
        + x25519.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite = b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, key: bytes) -> bytes:
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + key)

    def expand(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
        return hkdf_expand(
            key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, size
        )

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key = expand(secret, b"key", context, 32)
    return AESGCM(key).decrypt(expand(secret, b"base_nonce", context, 12), ciphertext, b"")


def report_data(label: str, nonce: bytes, items: list[bytes]) -> bytes:
    return sha256(label.encode() + b"\0" + nonce + b"".join(map(sha256, items))) + bytes(32)


def nonce_root(nonces: list[bytes]) -> bytes:
    level = [sha256(b"\x00" + nonce) for nonce in nonces]
    while len(level) & (len(level) - 1):
        level.append(bytes(32))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [sha256(b"\x01" + left + right) for left, right in pairs]
    return level[0]


def nonce_root_from(nonce: bytes, index: int, path: list[bytes]) -> bytes:
    value = sha256(b"\x00" + nonce)
    for beside in path:
        index, right = divmod(index, 2)
        value = sha256(b"\x01" + (beside + value if right else value + beside))
    return value


def der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 128 + size]) + len(content).to_bytes(size, "big") + content


def alternative_names(*names: str) -> bytes:
    """The extension of a certificate with these names: URIs, and after "DNS:" a DNS name."""
    found = [
        der(0x82, name[4:].encode()) if name.startswith("DNS:") else der(0x86, name.encode())
        for name in names
    ]
    return der(0x30, bytes.fromhex("0603551d11"), der(0x04, der(0x30, *found)))


def record(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + len(payload).to_bytes(4, "big") + payload


def padme(length: int) -> int:
    """PADMÉ of at least 512, by powers of two instead of bits."""
    length = max(length, 512)
    exponent = 0
    while 2 ** (exponent + 1) <= length:
        exponent += 1
    size = 1
    while 2**size <= exponent:
        size += 1
    unit = 2 ** (exponent - size)
    while length % unit:
        length += 1
    return length


def key_id(key: bytes) -> bytes:
    return hkdf(key, b"", b"confide/key-id/2")


def worker_key(key: bytes, spki: bytes, model: str) -> bytes:
    return hkdf(key, sha256(spki), b"confide/worker-key/2" + model.encode())


def request(
    worker_key: bytes,
    share: bytes,
    clear: tuple[bytes, bytes, bytes],
    place: list[Any],
    content: dict[str, Any],
) -> bytes:
    """A sealed request. `clear` is KEM key hash, sealed share, salt; `place` the sealed fields."""
    content_bytes = cbor(content)
    plaintext = len(content_bytes).to_bytes(4, "big") + content_bytes
    plaintext += bytes(padme(len(plaintext)) - len(plaintext))
    key = hkdf(worker_key + share, clear[2], b"confide/request/2")
    sealed = AESGCM(key).encrypt(bytes(12), plaintext, cbor(["confide/2", *place]))
    return b"".join(clear) + sealed


def response_key(worker_key: bytes, share: bytes, salts: bytes) -> bytes:
    return hkdf(worker_key + share, salts, b"confide/response/2")


def bill_record(bill: bytes) -> bytes:
    return record(5, bill + (5 + len(bill) + 8).to_bytes(4, "big") + b"bill")


def frame(key: bytes, number: int, kind: int, content: bytes) -> bytes:
    """A sealed record."""
    plaintext = bytes([kind]) + len(content).to_bytes(4, "big") + content
    while len(plaintext) % 512:
        plaintext += b"\0"
    nonce = number.to_bytes(12, "big")
    return record(1, AESGCM(key).encrypt(nonce, plaintext, b"confide/frame/2"))
