"""Theorems about devices: what their requests can reach is their guest's, and so are their interrupts.

As for processors (`walks.py`): lemmas about one entry and one cached entry cover any number of devices at work at once;
the other groups are about the functions that run, `dma_translate`, `dma_write` and `remap_interrupt`.
"""

from __future__ import annotations

from typing import cast

from checks.isolation.claims import (
    Proof,
    frame_of,
    group_about,
    lemma,
    run_function,
    same_offset,
    symbols,
)
from checks.isolation.instances import Instances
from checks.isolation.open_translation import LANDS, WRITES, OpenTranslation, Owned
from checks.isolation.patterns import Patterns
from checks.isolation.world import Sightings, World
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Value
from checks.theorem import Group

LEVELS = (4, 3, 2, 1)


def lemmas(world: World, patterns: Patterns, name: str) -> Group:
    """One step of a walk at each level, and what is reached through the caches."""
    names = ("domain", "table", "index", "offset")
    domain, table, index, offset = symbols(world, "device_walk_finds_own", names)
    values = {"domain": domain, "table": table, "index": index, "offset": offset}
    goals = []
    for level in LEVELS:
        walking = ("is_device_walking", (level, domain, table))
        claim = ("device_walk_finds_own", (level, domain, table, index, offset))
        goals.append(lemma(world, patterns, f"{name}.level{level}", walking, claim, values))
    device, low, high = symbols(world, "is_reached", ("device", "low", "high"))
    values = {"device": device, "low": low, "high": high, "frame": table}
    reached, own_memory = ("is_reached", (device, low, high, table)), ("is_memory_of_owner", (device, table))
    goals.append(lemma(world, patterns, f"{name}.iotlb_hit", reached, own_memory, values))
    (vector,) = symbols(world, "is_vector_of", ("vector",))
    values = {"device": device, "vector": vector, "low": low, "high": high}
    interrupting, own_vector = (
        ("may_interrupt", (device, vector, low, high)),
        ("is_vector_of", (device, vector)),
    )
    goals.append(lemma(world, patterns, f"{name}.interrupt_hit", interrupting, own_vector, values))
    return Group(name, world.context, tuple(goals))


def dma_translation(world: World, patterns: Patterns, name: str) -> Group:
    """Where there is a guest, `dma_translate` blocks, or returns the same offset in a frame of the device's guest."""
    function = world.program.functions["dma_translate"]
    device, address, access = (world.symbol(p.name, p.type) for p in function.parameters)
    called = run_function(world, function, (device, address, access))
    result, cursor, seen = cast(Vector, called.result), called.after, called.seen
    landed, landed_seen = world.look("is_memory_of_owner", world.before, device, frame_of(world, result))
    page = frame_of(world, cast(Vector, address))
    assumed = _assumed(world, patterns, (seen, landed_seen), device, [("offset", page)])
    given = [*assumed, cursor.alive]
    conclusions = {
        LANDS: (given, cast(Truth, landed)),
        "keeps_offset": (given, same_offset(world, result, cast(Vector, address))),
    }
    return group_about(world, name, called, conclusions, {"device": device, "address": address})


def dma_writing(world: World, _patterns: Patterns, name: str) -> Group:
    """`dma_write` changes no memory but what `dma_translate` leads to."""
    function = world.program.functions["dma_write"]
    device, address, value = (world.symbol(p.name, p.type) for p in function.parameters)
    own = Owned("is_memory_of_owner", device)
    run = OpenTranslation(world, function, (device, address, value), "dma_translate", own)
    return run.group(name, {WRITES: run.writes()}, {"device": device, "address": address})


def interrupt_remapping(world: World, patterns: Patterns, name: str) -> Group:
    """Where there is a guest, `remap_interrupt` blocks, or the interrupt is one that the device may send."""
    function = world.program.functions["remap_interrupt"]
    device, address, data = (world.symbol(p.name, p.type) for p in function.parameters)
    called = run_function(world, function, (device, address, data))
    is_own, own_seen = world.look("is_interrupt_of", world.before, device, called.result)
    index, _ = world.look("interrupt_index", world.before, address, data)
    entry = world.terms.extract(cast(Vector, index), 7, 0)
    assumed = _assumed(world, patterns, (called.seen, own_seen), device, [("vector", entry)])
    conclusions = {"is_the_devices_own": ([*assumed, called.after.alive], cast(Truth, is_own))}
    return group_about(world, name, called, conclusions, {"device": device, "address": address, "data": data})


def _assumed(
    world: World,
    patterns: Patterns,
    seen: tuple[Sightings, ...],
    device: Value,
    named: list[tuple[str, Value]],
) -> list[Truth]:
    """That there is a guest, and the invariant where a request of the device looks."""
    (vm,) = symbols(world, "is_data_of", ("vm",))
    exists, exists_seen = world.look("is_in_use", world.before, vm)
    _, context_seen = world.look("has_own_context", world.before, device)
    points = (*seen, exists_seen, context_seen)
    return [cast(Truth, exists), *Instances(world, patterns).at(points, [("device", device), *named])]


PROOFS: dict[str, tuple[Proof, tuple[str, ...]]] = {
    "device_walk": (lemmas, (*(f"level{level}" for level in LEVELS), "iotlb_hit", "interrupt_hit")),
    "dma_translate": (dma_translation, (LANDS, "keeps_offset")),
    "dma_write": (dma_writing, (WRITES,)),
    "remap_interrupt": (interrupt_remapping, ("is_the_devices_own",)),
}
"""The groups by subject: what builds one, and the names of its goals."""
