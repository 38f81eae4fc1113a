"""The control file of a server that was built with failpoints (src/core/failpoint.h)."""

import mmap
import os
import re
import struct

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/core/failpoint.def")
SLOT = struct.Struct("=5I")  # action, from, to, hits, taken
ACTIONS = {"die": 1, "error": 2, "stall": 3}
EVER = 0xFFFFFFFF


def declared():
    """{name: may it fail} in the order of the slots."""
    with open(SOURCE) as f:
        rows = re.findall(r"^FAILPOINT\((\w+), (FAILS|PASSES), ", f.read(), re.M)
    return {name.lower(): fails == "FAILS" for name, fails in rows}


class Points:
    def __init__(self, path):
        self.path, self.names = path, list(declared())
        with open(path, "wb+") as f:
            f.truncate(SLOT.size * len(self.names))
            self._map = mmap.mmap(f.fileno(), 0)

    def _slot(self, name):
        at = self.names.index(name) * SLOT.size
        return at, SLOT.unpack_from(self._map, at)

    def clear(self):
        """Nothing is armed, nothing was hit."""
        self._map[:] = bytes(len(self._map))

    def disarm(self):
        """Nothing is armed; the counts stay."""
        for at in range(0, len(self._map), SLOT.size):
            struct.pack_into("=I", self._map, at, 0)

    def arm(self, name, action, first=1, last=None):
        """Takes the action at the hits from first to last (default: once)."""
        at, _ = self._slot(name)
        SLOT.pack_into(self._map, at, 0, first, last or first, 0, 0)
        struct.pack_into("=I", self._map, at, ACTIONS[action])

    def hits(self):
        return {name: self._slot(name)[1][3] for name in self.names if self._slot(name)[1][3]}

    def taken(self, name):
        return self._slot(name)[1][4]
