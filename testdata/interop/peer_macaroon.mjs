// js-macaroon as a client of macaroond: what a holder can do, and what a forger
// can. Reads and prints what peer_pymacaroons.py does. Up to three caveats it
// exports as binary; it cannot with more, so those go out in the JSON form.
import { readFileSync } from 'node:fs';
import macaroon from 'macaroon';

const base64url = (data) => Buffer.from(data).toString('base64url');

function text(m) {
  return base64url(m.caveats.length <= 3 ? m.exportBinary() : JSON.stringify(m.exportJSON()));
}

function* forgeries(m) {
  const forged = (what, edit) => {
    const object = m.exportJSON();
    edit(object.c);
    return { what, token: text(macaroon.importMacaroon(object)) };
  };
  const n = m.caveats.length;
  for (let i = 0; i < n; i++) {
    yield forged(`caveat ${i} removed`, (c) => c.splice(i, 1));
    yield forged(`caveat ${i} changed`, (c) => { c[i] = { i: c[i].i + '0' }; });
    yield forged(`caveat ${i} doubled`, (c) => c.splice(i, 0, c[i]));
    if (i + 1 < n) {
      yield forged(`caveats ${i} and ${i + 1} exchanged`, (c) => c.splice(i, 2, c[i + 1], c[i]));
    }
  }
  yield forged('all caveats of the holder removed', (c) => c.splice(3));
}

const asked = JSON.parse(readFileSync(0, 'utf8'));
const m = macaroon.importMacaroon(asked.token);
const same = text(m);
asked.caveats.forEach((caveat) => m.addFirstPartyCaveat(caveat));
process.stdout.write(JSON.stringify({ same, narrowed: text(m), forged: [...forgeries(m)] }));
