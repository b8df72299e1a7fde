"""Renders a refuted theorem about a handler, with a case that `nonroot replay` runs on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import z3

from checks.case import Case
from checks.fast.theorems import FormTheorem
from checks.fuzz.bases import CODE, DATA, MEMORY_SIZE, STACK_TOP
from checks.symbolic.terms import Vector
from checks.symbolic.values import Value
from checks.theorem import Counterexample
from checks.trap.concrete import Concrete, Written, item, show_record, write_instruction
from checks.trap.contract import LINEAR
from checks.trap.mapping import runs_of
from checks.trap.runs import Run
from refmodel.encoder import Encoder

COLUMNS = ("reference", "fast")
BASE = "kernel"  # of checks/fuzz/bases.py: linear addresses of its pages are physical ones
RSP, RBP = 4, 5
OTHER_FLAGS = ~0xCD7 & (1 << 64) - 1  # all but the status flags, DF and bit 1, which reads as 1
COMPLETES = "completes"
WRONG = "the handler does something else than the specification"


class Tools(Protocol):
    """What is made only once there is a counterexample."""

    @property
    def encoder(self) -> Encoder:
        """Writes instructions."""
        ...


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains the refutation of a theorem."""

    goal_id: str
    theorem: FormTheorem
    tools: Tools

    def minimise(self) -> list[z3.ExprRef]:
        """What to make zero or false if it can be: first all that the fuzzer's machine cannot do."""
        theorem, terms = self.theorem, self.theorem.start.terms
        state, symbols = theorem.start.block.state, theorem.symbols
        read = state.elements("GPR").read
        wanted: list[tuple[Vector, int]] = [
            (cast(Vector, state.get("RIP")), CODE),
            (cast(Vector, read((RSP,))), STACK_TOP),
            (cast(Vector, read((RBP,))), DATA),  # where LEAVE finds what it pops
            *((address, DATA) for address in symbols.addresses.values()),
        ]
        if "target" in symbols.values:
            wanted.append((symbols.values["target"], CODE))
        found: list[Value] = [*theorem.failures, terms.negation(theorem.completes)]
        found += [terms.arithmetic("-", value, place, 64) for value, place in wanted]
        found.append(terms.arithmetic("&", cast(Vector, state.get("RFLAGS")), OTHER_FLAGS, 64))
        found += [*symbols.numbers.values(), *symbols.values.values()]
        found += [read(point) for point in theorem.evaluator.touched.points.get("GPR", {}).values()]
        return [value for value in found if isinstance(value, z3.ExprRef)]

    def explain(self, model: z3.ModelRef) -> Counterexample:
        """The counterexample under a model."""
        concrete, theorem = Concrete(model), self.theorem
        run = self._run()
        state = {
            name: value for name, value in concrete.start(run).items() if name.startswith(("GPR", "RFLAGS"))
        }
        rip = concrete.number(run.start.get("RIP"))
        written = write_instruction(self.tools.encoder, concrete, theorem.symbols, run, rip)
        shown = (
            f"{written.code.hex(' ')}  {written.text}" if written is not None else theorem.handled.form.name
        )
        rows = [
            *((name, f"{value:#x}", f"{value:#x}") for name, value in sorted(state.items()) if value),
            ("then it", *self._outcomes(concrete)),
            *self._differences(concrete),
        ]
        case = self._case(concrete, run, state, rip, written) if written is not None else None
        instruction = theorem.handled.form.instruction
        return Counterexample(f"{shown}: {WRONG}", ("", *COLUMNS), tuple(rows), instruction.span, case)

    def _run(self) -> Run:
        theorem = self.theorem
        start = theorem.start.block.state
        return Run(
            evaluator=theorem.evaluator,
            start=start,
            completes=theorem.completes,
            faults=False,
            exits=False,
            fault=None,
            completed=theorem.completed,
            faulted=start,
            aborts=(),
        )

    def _outcomes(self, concrete: Concrete) -> tuple[str, str]:
        is_done = any(concrete.holds(path.condition) for path in self.theorem.paths if path.completes)
        specified = COMPLETES if concrete.holds(self.theorem.completes) else "faults or exits"
        return specified, COMPLETES if is_done else "refuses"

    def _differences(self, concrete: Concrete) -> Iterator[tuple[str, str, str]]:
        for difference in self.theorem.differences:
            if concrete.holds(difference.condition) and not concrete.holds(difference.is_equal):
                yield (
                    f"{item(difference.name, concrete.point(difference.point))} then",
                    show_record(concrete, difference.expected, difference.type),
                    show_record(concrete, difference.found, difference.type),
                )

    def _case(
        self, concrete: Concrete, run: Run, state: dict[str, int], rip: int, written: Written
    ) -> dict[str, object] | None:
        """The case file; None if the counterexample needs what the fuzzer's machine does not give.

        That is a fault of memory, a refusal, or another address.
        """
        memory = concrete.bytes_read(run, LINEAR)
        fails = any(concrete.holds(failure) for failure in self.theorem.failures)
        is_possible = not fails and self._outcomes(concrete)[1] == COMPLETES and rip == CODE
        if not is_possible or any(address >= MEMORY_SIZE for address in memory):
            return None
        return Case(
            kind="fuzz",
            id=self.goal_id,
            code=written.code,
            instruction=self.theorem.handled.form.instruction.name,
            base=BASE,
            state={"GPR[4]": STACK_TOP} | state | written.registers,
            memory=tuple(runs_of(memory)),
            columns=COLUMNS,
            text=WRONG,
        ).document()
