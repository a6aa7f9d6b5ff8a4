// The second opinion of make.py: reads its figures, takes nothing but the
// inputs from them, and prints what node's crypto and js-macaroon compute.
import { createHash, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { newMacaroon } = createRequire(new URL('../interop/', import.meta.url))('macaroon');
const asked = JSON.parse(readFileSync(0, 'utf8'));

const hex = (bytes) => Buffer.from(bytes).toString('hex');

function rootKey({ epoch_secret, identifier }) {
  return hex(hkdfSync('sha256', Buffer.from(epoch_secret, 'hex'), 'macaroond/root-key/v1', identifier, 32));
}

function fingerprint(signature) {
  return hex(createHash('sha256').update('macaroond/branch/v1').update(signature).digest().subarray(0, 16));
}

function token({ root_key, identifier, location, caveats }) {
  const m = newMacaroon({ version: 2, rootKey: Buffer.from(root_key, 'hex'), identifier, location });
  const out = { signatures: [], fingerprints: [], binary: [] };
  for (let i = 0; ; i++) {
    out.signatures.push(hex(m.signature));
    out.fingerprints.push(fingerprint(m.signature));
    if (i <= 3) { // it cannot export more as binary
      out.binary.push(Buffer.from(m.exportBinary()).toString('base64url'));
    }
    if (i === caveats.length) break;
    m.addFirstPartyCaveat(caveats[i]);
  }
  out.json = Buffer.from(JSON.stringify(m.exportJSON())).toString('base64url');
  return out;
}

process.stdout.write(JSON.stringify({
  root_keys: asked.root_keys.map(rootKey),
  tokens: asked.tokens.map(token),
}));
