#!/usr/bin/env python3
"""Makes rootkeys.json and tokens.json, and believes nobody.

    /usr/bin/python3 make.py           write the files
    /usr/bin/python3 make.py --check   fail when they would come out different

Every figure is computed by implementations that share no code with the
project or with each other, and is written only when they agree:

  root keys    HKDF-SHA256 written out over hmac (here)    crypto.hkdfSync (make.mjs)
  signatures   pymacaroons (here)                          js-macaroon (make.mjs)
  text forms   pymacaroons' binary (here)                  js-macaroon's binary, as far as it
               exports it (three caveats), and its JSON form
  fingerprints hashlib (here)                              node's crypto (make.mjs)

It needs Debian's python3-pymacaroons, node, and `npm ci` in ../interop.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import subprocess
import sys

from pymacaroons import MACAROON_V2, Macaroon

HERE = pathlib.Path(__file__).resolve().parent


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def root_key(secret, identifier):
    """RFC 5869 with a 32 byte output, so that the expansion is one block."""
    prk = hmac.new(b"macaroond/root-key/v1", secret, hashlib.sha256).digest()
    return hmac.new(prk, identifier.encode() + b"\x01", hashlib.sha256).digest()


# What the vectors are about. Secrets are patterns, not secrets.

COUNTING = bytes(range(32))
ONES = b"\xff" * 32
ZEROS = bytes(32)

ROOT_KEYS = [
    ("first epoch", COUNTING, "m1.1." + b64(bytes(16))),
    ("another root key ID", COUNTING, "m1.1." + b64(b"\xff" * 16)),
    ("another epoch number, same secret", COUNTING, "m1.2." + b64(bytes(16))),
    ("another secret, same identifier", ONES, "m1.1." + b64(bytes(16))),
    ("both characters that only base64url has", ONES, "m1.7." + b64(b"\xfb\xef\xbe\xff" * 4)),
    ("a secret of zeros", ZEROS, "m1.10." + b64(bytes(range(16)))),
    ("the greatest epoch", COUNTING, "m1.4294967295." + b64(bytes(range(240, 256)))),
]

MINT = [
    "time-before 2026-12-21T22:00:00Z",
    "user usr_AAECAwQFBgcICQoL",
    "device dev_DA0ODxAREhMUFRYX",
]
WINDOW = "time-before 2026-11-21T23:00:00Z"
HERE_URL = "https://auth.example.com"

# name, index of the root key, location, caveats
TOKENS = [
    ("bare root", 0, HERE_URL, MINT),
    ("bare root without a location", 1, "", MINT),
    ("window and audience", 0, HERE_URL, MINT + [WINDOW, "audience photos"]),
    ("one of each", 2, HERE_URL, MINT + [
        WINDOW, "time-after 2026-11-21T22:00:00Z", "audience photos", "method GET HEAD",
        "path /photos/** /albums/*/cover", "allow photos:read albums:*",
        "client-ip 192.0.2.0/24 2001:db8::/32", "origin https://app.example.com",
        "body-sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "user usr_AAECAwQFBgcICQoL", "device dev_DA0ODxAREhMUFRYX",
        "note for the printer in the hall",
    ]),
    ("the same caveats in another order", 2, HERE_URL, MINT + ["audience photos", WINDOW]),
    ("a caveat twice", 3, HERE_URL, MINT + ["audience photos", "audience photos"]),
    ("text beyond ASCII", 4, HERE_URL, MINT + ["note für Elise, 日本語, 🗝", "path /фото/** /über%20uns"]),
    ("127, 128 and 512 bytes: one and two byte lengths", 5, HERE_URL,
     MINT + ["note " + "a" * 122, "note " + "b" * 123, "note " + "c" * 507]),
    ("a location of 128 bytes", 6, "https://auth.example.com/" + "l" * 103, MINT + ["audience photos"]),
    ("64 caveats", 6, "", MINT + ["note %d" % i for i in range(61)]),
    # Found by search. js-macaroon writes the member "s" and not "s64" when a
    # signature happens to be UTF-8, which one in about a hundred million is.
    ("a signature that is UTF-8 by chance", 0, HERE_URL, MINT + ["note 1036203646"]),
]


def token(root_key_hex, identifier, location, caveats):
    m = Macaroon(location=location, identifier=identifier, key=bytes.fromhex(root_key_hex), version=MACAROON_V2)
    signatures = [m.signature]
    texts = [m.serialize()]
    for c in caveats:
        m.add_first_party_caveat(c)
        signatures.append(m.signature)
        texts.append(m.serialize())
    return signatures, texts


def without_empty_location(text):
    """pymacaroons writes a location of no bytes; everybody else writes none."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert data[:3] == b"\x02\x01\x00", "no empty location"
    return b64(data[:1] + data[3:])


def compute():
    root_keys = [
        {"name": n, "epoch_secret": s.hex(), "identifier": i, "root_key": root_key(s, i).hex()}
        for n, s, i in ROOT_KEYS
    ]
    tokens = []
    for name, key, location, caveats in TOKENS:
        k = root_keys[key]
        signatures, texts = token(k["root_key"], k["identifier"], location, caveats)
        t = {
            "name": name,
            "root_key": k["root_key"],
            "location": location,
            "identifier": k["identifier"],
            "caveats": caveats,
            "signatures": signatures,
            "fingerprints": [
                hashlib.sha256(b"macaroond/branch/v1" + bytes.fromhex(s)).digest()[:16].hex() for s in signatures
            ],
            "texts": texts,
        }
        if not location:
            t["texts"] = [without_empty_location(x) for x in texts]
            t["text_with_empty_location"] = texts[-1]
        tokens.append(t)
    return root_keys, tokens


def agree(what, ours, theirs):
    if ours != theirs:
        sys.exit("python and javascript disagree on %s:\n  %s\n  %s" % (what, ours, theirs))


def main():
    root_keys, tokens = compute()
    asked = json.dumps({"root_keys": root_keys, "tokens": tokens})
    out = subprocess.run(
        ["node", str(HERE / "make.mjs")], input=asked, capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    if out.returncode != 0:
        sys.exit("make.mjs: " + out.stderr)
    js = json.loads(out.stdout)
    agree("the number of root keys", len(root_keys), len(js["root_keys"]))
    agree("the number of tokens", len(tokens), len(js["tokens"]))
    for k, theirs in zip(root_keys, js["root_keys"]):
        agree("the root key of " + k["name"], k["root_key"], theirs)
    binaries = 0
    for t, theirs in zip(tokens, js["tokens"]):
        for member in "signatures", "fingerprints":
            agree(member + " of " + t["name"], t[member], theirs[member])
        for i, text in enumerate(theirs["binary"]):
            agree("text %d of %s" % (i, t["name"]), t["texts"][i], text)
            binaries += 1
        t["text_json"] = theirs["json"]
    if binaries == 0:
        sys.exit("javascript exported nothing as binary")

    files = {
        "rootkeys.json": {
            "about": "root_key = HKDF-SHA256(salt macaroond/root-key/v1, ikm epoch_secret, info identifier), 32 bytes",
            "made_by": ["make.py: hmac of Python's standard library", "make.mjs: crypto.hkdfSync of node"],
            "vectors": root_keys,
        },
        "tokens.json": {
            "about": "signatures, fingerprints and texts are after 0, 1, … caveats; text_json is the whole token "
                     "in base64url of the JSON form",
            "made_by": ["make.py: pymacaroons", "make.mjs: js-macaroon"],
            "vectors": tokens,
        },
    }
    for name, content in files.items():
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        if "--check" not in sys.argv:
            (HERE / name).write_text(text, encoding="utf-8")
        elif (HERE / name).read_text(encoding="utf-8") != text:
            sys.exit(name + " is not what the implementations compute")
    print("%d root keys, %d tokens: python and javascript agree" % (len(root_keys), len(tokens)))


if __name__ == "__main__":
    main()
