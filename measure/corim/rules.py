"""The definition of CoRIM, rule by rule: draft-ietf-rats-corim-11, sections 4 to 7.

Numbers are the specification's code points. Two things are read that the draft does not write:
a profile without its URI tag, and algorithm names as text; published tools make both. Times before
1970 and after 9999, which it has, are refused.
"""

from __future__ import annotations

from measure.corim.grammar import (
    Rule,
    anything,
    between,
    blob,
    boolean,
    embedded,
    exactly,
    integer,
    label,
    list_of,
    map_of,
    mapping,
    may,
    must,
    nothing,
    one_of,
    private,
    record,
    tagged,
    text,
    unsigned,
)

TAG_COSE_SIGN1 = 18
TAG_CORIM = 501
TAG_COSWID, TAG_COMID, TAG_COTL = 505, 506, 508
TAG_URI, TAG_TIME, TAG_UUID, TAG_OID = 32, 1, 37, 111
TAG_BYTES, TAG_SVN = 560, 552

CONTENT_TYPE = "application/rim+cbor"
MAX_TIME = 253402300799  # the last second of the year 9999, since 1970

# 7: common types
_uuid = blob(16, 16)
_tagged_uuid = tagged(TAG_UUID, _uuid)
_tagged_ueid = tagged(550, blob(7, 33))
_tagged_bytes = tagged(TAG_BYTES, blob())
_oid = tagged(TAG_OID, blob(1))
_uri = tagged(TAG_URI, text)
_time = tagged(TAG_TIME, between(0, MAX_TIME))
_digest = record(
    must("algorithm", one_of("a hash algorithm", integer, text)), must("value", blob())
)
_digests = list_of(_digest)
_thumbprint = one_of("digests", _digest, _digests)
_validity = mapping({0: may("not-before", _time), 1: must("not-after", _time)})
_tag_id = one_of("text or a UUID", text, _uuid)
_tag_identity = mapping({0: must("tag-id", _tag_id), 1: may("tag-version", unsigned)})


def _entity(*roles: int) -> Rule:
    return mapping(
        {
            0: must("entity-name", text),
            1: may("reg-id", _uri),
            2: must("role", list_of(exactly(*roles))),
        },
        others=private,
    )


# 5.1.4.6: keys
_key = one_of(
    "a key, certificate or thumbprint",
    *(tagged(number, text) for number in (554, 555, 556)),
    *(tagged(number, _digest) for number in (557, 559, 561)),
    tagged(558, one_of("COSE keys", map_of(label, anything), list_of(anything))),
    tagged(562, blob(1)),
    _tagged_bytes,
)
_keys = list_of(_key)

# 5.1.4.1 to 5.1.4.4: environments
_class = mapping(
    {
        0: may("class-id", one_of("an OID, UUID or bytes", _oid, _tagged_uuid, _tagged_bytes)),
        1: may("vendor", text),
        2: may("model", text),
        3: may("layer", unsigned),
        4: may("index", unsigned),
    },
    least=1,
)
_instance = one_of("an instance", _tagged_ueid, _tagged_uuid, _key)
environment = mapping(
    {
        0: may("class", _class),
        1: may("instance", _instance),
        2: may("group", one_of("a UUID or bytes", _tagged_uuid, _tagged_bytes)),
    },
    least=1,
)

# 5.1.4.5: measurements
_element = one_of("an OID, UUID, number or text", _oid, _tagged_uuid, unsigned, text)
_svn = one_of("a security version", unsigned, tagged(TAG_SVN, unsigned), tagged(553, unsigned))
_limit = one_of("an integer or null", integer, nothing)
_range = tagged(564, record(must("min", _limit), must("max", _limit)))
_version = mapping(
    {0: must("version", text), 1: may("version-scheme", one_of("a scheme", integer, text))}
)
_flags = mapping(
    {number: may(f"flag {number}", boolean) for number in range(11)}, others=private, least=1
)
_masked = tagged(563, record(must("value", blob()), must("mask", blob())))
_values = mapping(
    {
        0: may("version", _version),
        1: may("svn", _svn),
        2: may("digests", _digests),
        3: may("flags", _flags),
        4: may("raw-value", one_of("tagged bytes", _tagged_bytes, _masked)),
        5: may("raw-value-mask", blob()),
        6: may("mac-addr", one_of("6 or 8 bytes", blob(6, 6), blob(8, 8))),
        7: may("ip-addr", one_of("4 or 16 bytes", blob(4, 4), blob(16, 16))),
        8: may("serial-number", text),
        9: may("ueid", blob(7, 33)),
        10: may("uuid", _uuid),
        11: may("name", text),
        13: may("cryptokeys", _keys),
        14: may(
            "integrity-registers", map_of(one_of("a number or text", unsigned, text), _digests)
        ),
        15: may("int-range", one_of("an integer or a range", integer, _range)),
    },
    others=private,
    least=1,
)
_measurement = mapping(
    {0: may("mkey", _element), 1: must("mval", _values), 2: may("authorized-by", _keys)}
)
_measurements = list_of(_measurement)

# 5.1.5 to 5.1.12: triples
_environment = must("environment", environment)
_claims = record(_environment, must("measurements", _measurements))
_conditions = mapping({0: may("mkey", _element), 1: may("authorized-by", _keys)}, least=1)
_key_triple = record(_environment, must("keys", _keys), may("conditions", _conditions))
_series = record(must("condition", _measurements), must("addition", _measurements))
_common_condition = record(
    _environment, must("claims", list_of(_measurement, 0)), may("authorized-by", _keys)
)
_domain_triple = record(must("domain", environment), must("domains", list_of(environment)))
_triples = mapping(
    {
        0: may("reference-triples", list_of(_claims)),
        1: may("endorsed-triples", list_of(_claims)),
        2: may("identity-triples", list_of(_key_triple)),
        3: may("attest-key-triples", list_of(_key_triple)),
        4: may("dependency-triples", list_of(_domain_triple)),
        5: may("membership-triples", list_of(_domain_triple)),
        6: may("coswid-triples", list_of(record(_environment, must("tag-ids", list_of(_tag_id))))),
        8: may(
            "conditional-endorsement-series-triples",
            list_of(record(must("condition", _common_condition), must("series", list_of(_series)))),
        ),
        10: may(
            "conditional-endorsement-triples",
            list_of(
                record(must("conditions", list_of(_claims)), must("endorsements", list_of(_claims)))
            ),
        ),
    },
    others=private,
    least=1,
)

# 5.1: CoMID; 6: CoTL
_linked_tag = mapping({0: must("linked-tag-id", _tag_id), 1: must("tag-rel", exactly(0, 1))})
comid = mapping(
    {
        0: may("language", text),
        1: must("tag-identity", _tag_identity),
        2: may("entities", list_of(_entity(0, 1, 2))),
        3: may("linked-tags", list_of(_linked_tag)),
        4: must("triples", _triples),
    },
    others=private,
)
_cotl = mapping(
    {
        0: must("tag-identity", _tag_identity),
        1: must("tags-list", list_of(_tag_identity)),
        2: must("tl-validity", _validity),
    }
)

# 4.1: CoRIM
_tag = one_of(
    "a CoMID, CoSWID or CoTL (tags 506, 505, 508)",
    tagged(TAG_COMID, blob()),
    tagged(TAG_COSWID, blob()),
    tagged(TAG_COTL, embedded(_cotl)),
)
_locator = mapping(
    {
        0: must("href", one_of("URIs", _uri, list_of(_uri))),
        1: may("thumbprint", _thumbprint),
    }
)
corim = tagged(
    TAG_CORIM,
    mapping(
        {
            0: must("id", _tag_id),
            1: must("tags", list_of(_tag)),
            2: may("dependent-rims", list_of(_locator)),
            3: may("profile", one_of("a URI or an OID", _uri, _oid, text)),
            4: may("rim-validity", _validity),
            5: may("entities", list_of(_entity(1, 2))),
        },
        others=private,
    ),
)

# 4.2: signed CoRIM. A detached payload or one replaced by its digest is not read: the reference
# values have to be where the signature is.
_signer = mapping({0: must("signer-name", text), 1: may("signer-uri", _uri)}, others=private)
_meta = mapping({0: must("signer", _signer), 1: may("signature-validity", _validity)})
_cwt_claims = mapping({1: must("iss", text), 2: may("sub", text)}, others=label)
_header = embedded(
    mapping(
        {
            1: must("alg", integer),
            3: must("content-type", exactly(CONTENT_TYPE)),
            8: may("corim-meta", embedded(_meta)),
            15: may("CWT-Claims", _cwt_claims),
        },
        others=label,
    )
)
signed = tagged(
    TAG_COSE_SIGN1,
    record(
        must("protected", _header),
        must("unprotected", mapping({}, others=label)),
        must("payload", embedded(corim)),
        must("signature", blob(1)),
    ),
)
# RFC 9052, section 4.4: what a signature of COSE_Sign1 covers.
to_be_signed = record(
    must("context", exactly("Signature1")),
    must("protected", _header),
    must("external", blob(0, 0)),
    must("payload", embedded(corim)),
)
