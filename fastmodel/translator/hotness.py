"""Finds where a run spends its time, by sampling, and puts regions in place of the routines there.

Most runs end before the first sample: what samples and translates is loaded then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fastmodel import state
from fastmodel.compiler.build import NativeCode, Target, compile_ir
from fastmodel.compiler.primitives import field, get, put, set_field
from fastmodel.decoded import CODE

if TYPE_CHECKING:
    from fastmodel.translator.regions import Routine

# A sample is taken whenever so many instructions were executed; less often, the more samples in a row lie in regions.
SAMPLE_PERIOD = 1 << 18
MOST_DOUBLINGS = 6
# How many samples make a trace hot: translating takes as long as tens of millions of instructions do.
HOT = 16
MOST_REGIONS = 64


class Translator:
    """Translates regions for the decoded instructions of one state block, given by its address."""

    def __init__(
        self,
        target: Target,
        codes: Callable[[], Mapping[int, Routine]],
        slow_address: Callable[[str], int],
        block: int,
    ) -> None:
        self._target = target
        self._codes = codes
        self._slow_address = slow_address
        self._block = block
        self._forget()
        put(64, block + state.UNTIL_SAMPLE, SAMPLE_PERIOD)

    def _forget(self) -> None:
        """When all decoded instructions were dropped, and their regions with them."""
        self._generation = get(64, self._block + state.GENERATION)
        self._samples: Counter[int] = Counter()
        self._hits = 0  # samples in a row that lay in regions
        self._regions: list[NativeCode] = []
        self.left_alone: set[int] = set()  # places that could not be translated
        self._before: dict[int, int] = {}  # what stood in the decoded instructions where regions are entered

    def sample(self) -> int:
        """Notes where the last run came to its end, and translates what was seen there often enough.

        Returns after how many instructions the next sample is to be taken.
        """
        from fastmodel import loop

        if get(64, self._block + state.GENERATION) != self._generation:
            self._forget()
        rip = get(64, self._block + state.SAMPLE)
        place = loop.known_trace(self._block, rip)
        if place in self._before:
            self._hits = min(self._hits + 1, MOST_DOUBLINGS)
            return SAMPLE_PERIOD << self._hits
        self._hits = 0
        self._samples[place] += 1
        if self._samples[place] == HOT and place != 0 and len(self._regions) < MOST_REGIONS:
            self.translate([place])
        return SAMPLE_PERIOD

    def translate(self, heads: list[int]) -> None:
        """Makes a region of these traces and those they lead to, and lets their decoded instructions enter it."""
        from fastmodel.translator.partial import REGION, RegionWriter
        from fastmodel.translator.regions import collect

        region = collect(self._block, heads, self._codes(), self._before)
        writer = RegionWriter(region.routines, self._slow_address)
        text = writer.region(region.heads, region.returns)
        self.left_alone |= writer.left_alone
        code = NativeCode(self._target, compile_ir(self._target, text))
        self._regions.append(code)
        address = code.address(REGION)
        for place in region.heads:
            if place not in self.left_alone and place not in self._before:
                self._before[place] = field(64, place + CODE)
                set_field(64, place + CODE, address)
