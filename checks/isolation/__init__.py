"""EPT isolation: every step of the VMM and of the processors keeps the invariant of `spec/vmm/isolation.isa`.

States are uninterpreted functions, and every theorem is pointwise: the invariant is assumed at the points that the
step and the goal look at, and shown at one arbitrary point (`instances.py`). So the number of guests, processors and
frames is of no matter. All that is proved is read from the specification's steps and invariants.
"""

from checks.isolation.family import Isolation

__all__ = ["Isolation"]
