"""pymacaroons as a client of macaroond: what a holder can do, and what a forger can.

Reads {"token", "caveats"} and prints
  same       the token read and written again
  narrowed   the token with the caveats appended
  forged     [{"what", "token"}]: the narrowed token with a caveat removed,
             changed, exchanged with the next or doubled, its signature kept
"""

import json
import sys

from pymacaroons import MACAROON_V2, Macaroon
from pymacaroons.caveat import Caveat


def forgeries(m):
    def forged(what, edit):
        copy = m.copy()
        edit(copy.caveats)
        return {"what": what, "token": copy.serialize()}

    def change(i):
        def edit(caveats):
            caveats[i] = Caveat(caveat_id=caveats[i].caveat_id + b"0", version=MACAROON_V2)
        return edit

    def exchange(i):
        def edit(caveats):
            caveats[i], caveats[i + 1] = caveats[i + 1], caveats[i]
        return edit

    n = len(m.caveats)
    for i in range(n):
        yield forged("caveat %d removed" % i, lambda c, i=i: c.pop(i))
        yield forged("caveat %d changed" % i, change(i))
        yield forged("caveat %d doubled" % i, lambda c, i=i: c.insert(i, c[i]))
        if i + 1 < n:
            yield forged("caveats %d and %d exchanged" % (i, i + 1), exchange(i))
    yield forged("all caveats of the holder removed", lambda c: c.__delitem__(slice(3, None)))


asked = json.load(sys.stdin)
m = Macaroon.deserialize(asked["token"])
same = m.serialize()
for caveat in asked["caveats"]:
    m.add_first_party_caveat(caveat)
json.dump({"same": same, "narrowed": m.serialize(), "forged": list(forgeries(m))}, sys.stdout)
