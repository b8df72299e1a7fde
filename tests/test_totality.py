"""Totality: exits that no handler is for are found."""

from __future__ import annotations

import pytest
import z3
from broken_specification import refuted_case, with_faults

from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from checks.totality.family import TotalityFamily
from checks.totality.replay import replay
from grammar import ir
from refmodel.model import Model, build

# What a hypervisor may get wrong: file, text, wrong text, the function that then exits, the reason.
FAULTS = [
    # A control that is set, for whose exits nobody wrote a handler.
    ("guests", "HLT_EXITING: true,", "HLT_EXITING: true, INTERRUPT_WINDOW_EXITING: true,", "cycle", "INTERRUPT_WINDOW"),
    # Handlers that are missing.
    ("handlers", "handler EPT_MISCONFIGURATION\n  stop_guest()", "", "ept_find_leaf", "EPT_MISCONFIGURATION"),
    ("handlers", "handler TRIPLE_FAULT\n  stop_guest()", "", "shut_down", "TRIPLE_FAULT"),
    ("handlers", "handler INVALID_GUEST_STATE\n  stop_guest()", "", "vm_entry", "INVALID_GUEST_STATE"),
]  # fmt: skip

# Handlers that reach beyond the current guest: file, text, wrong text, the handler, what is broken.
STRAYS = [
    ("handlers", "GUEST_CR8[CURRENT_VM] := value", "GUEST_CR8[1] := value", "CR_ACCESS", "GUEST_CR8"),
    ("msrs", "GUEST_MSR[CURRENT_VM, index] := value", "GUEST_MSR[1, index] := value", "WRMSR", "GUEST_MSR"),
    ("handlers", "handler PAUSE\n  skip_instruction()", "handler PAUSE\n  kill(VMM)", "PAUSE", "ends no other"),
    ("handlers", "handler INVD\n  skip_instruction()", "handler INVD\n  switch_to(VMM)", "INVD", "is not switched"),
    ("handlers", "handler WBINVD\n  skip_instruction()", "handler WBINVD\n  #UD()", "WBINVD", "returns"),
    ("handlers", "read_engine(last_device(CURRENT_VM)", "read_engine(0", "IO_INSTRUCTION", "uses no other's device"),
    ("hypercalls", "  elif argument >= PAGE_LIMIT\n    return false\n", "", "VMCALL", "names pages that exist"),
]  # fmt: skip

# Interrupts of the machine that a guest notices: file, text, wrong text, what arrives, what is broken.
ARRIVALS = [
    (
        "vmm/guests",
        "EXTERNAL_INTERRUPT_EXITING: true,",
        "EXTERNAL_INTERRUPT_EXITING: false,",
        "external_interrupt",
        "is not delivered",
    ),
    (
        "cpu/interrupts",
        "  exit EXCEPTION_OR_NMI {",
        "  INTERRUPTIBILITY.BLOCKING_BY_NMI := true\n  exit EXCEPTION_OR_NMI {",
        "non_maskable_interrupt",
        "is not noticed",
    ),
]

# The way back into a guest, and handlers of the machine's interrupts: file, text, wrong text, goal, what is broken.
WAYS_BACK = [
    (
        "vmm/schedule",
        "    switch_to(vm)\n",
        "",
        "entries.resume",
        "who is entered is the guest whose VMCS is current",
    ),
    (
        "vmm/handlers",
        "if EXIT_INTERRUPTION_INFORMATION.TYPE == NMI as bits(3)\n    yield()",
        "if EXIT_INTERRUPTION_INFORMATION.TYPE == HARDWARE_EXCEPTION as bits(3)\n    yield()",
        "ignored.EXCEPTION_OR_NMI",
        "the guest keeps ENTRY_INTERRUPTION_INFORMATION",
    ),
    (
        "vmm/handlers",
        "handler EXTERNAL_INTERRUPT\n  yield()",
        "handler EXTERNAL_INTERRUPT\n  stop_guest()",
        "ignored.EXTERNAL_INTERRUPT",
        "the guest goes on",
    ),
]

# What the processor writes past translations: file, text, wrong text, function, what is broken.
WRITES = [
    (
        "vmx/ept",
        "convertible: secondary().EPT_VIOLATION_VE and",
        "convertible:",
        "ept_violation",
        "no violation is for the guest",
    ),
    (
        "vmx/vm_exit",
        "  IN_NON_ROOT := false\n",
        "  IN_NON_ROOT := false\n  PHYSICAL[0x1000, 8] := 1\n",
        "vm_exit",
        "memory is as before",
    ),
]

# Ends of guests that are none, that leave the processor or the memory to the guest, or that others notice.
ENDS = [
    ("vmm/schedule", "  IN_NON_ROOT := false\n", "", "give_up_guest.processor", "the host's IN_NON_ROOT"),
    ("vmm/schedule", "  load_host()\n", "", "give_up_guest.processor", "the host's DR7"),
    ("vmm/schedule", "    retire(CURRENT_VM)", "", "give_up_guest.guest", "leaves its memory"),
    ("vmm/schedule", "  if kill(", "  KILLED_AT[1] := 0\n  if kill(", "give_up_guest.others", "KILLED_AT"),
    ("vmm/schedule", "as ExitReason)\n  end_guest()", "as ExitReason)", "stop_guest.guest", "is not alive"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ir.Program:
    """The specification with all of these faults."""
    folder = tmp_path_factory.mktemp("broken") / "spec"
    of_the_vmm = ((f"vmm/{file}", text, wrong) for file, text, wrong, *_ in (*FAULTS, *STRAYS))
    return with_faults(folder, (*of_the_vmm, *(one[:3] for one in (*ARRIVALS, *WAYS_BACK, *ENDS, *WRITES))))


@pytest.fixture(scope="module")
def broken_model(broken: ir.Program) -> Model:
    return build(broken)


@pytest.fixture(scope="module")
def family() -> TotalityFamily:
    return TotalityFamily()


def prove(family: TotalityFamily, program: ir.Program, goal: str) -> Result:
    outline = next(o for o in family.outlines(program) if goal in o.ids)
    group = family.build(program, outline.group, z3.Context(), frozenset([goal]))
    return GroupRunner(group, Limits()).prove(group.goals[0])


def replayed(result: Result, model: Model) -> bool:
    """Whether the reference does what the counterexample says."""
    return replay(refuted_case(result), model) == 0


@pytest.mark.parametrize(("file", "function", "reason"), [(file, *rest) for file, _, _, *rest in FAULTS])
def test_an_exit_without_a_handler_is_refuted_and_named(
    family: TotalityFamily,
    broken: ir.Program,
    broken_model: Model,
    model: Model,
    file: str,
    function: str,
    reason: str,
) -> None:
    result = prove(family, broken, f"totality.exits.{function}")
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert reason in {row[0] for row in result.counterexample.rows}
    assert replayed(result, broken_model)
    # A fault in what the VMM builds is in the case's state.
    assert replayed(result, model) == (file == "guests")


@pytest.mark.parametrize(("handler", "what"), [(handler, what) for *_, handler, what in STRAYS])
def test_a_handler_that_reaches_beyond_the_current_guest_is_refuted(
    family: TotalityFamily, broken: ir.Program, broken_model: Model, model: Model, handler: str, what: str
) -> None:
    result = prove(family, broken, f"totality.handlers.{handler}")
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert (what,) in result.counterexample.rows
    assert replayed(result, broken_model)
    assert not replayed(result, model)


@pytest.mark.parametrize(("file", "what", "broken_claim"), [(file, *rest) for file, _, _, *rest in ARRIVALS])
def test_an_interrupt_that_a_guest_notices_is_refuted(
    family: TotalityFamily,
    broken: ir.Program,
    broken_model: Model,
    model: Model,
    file: str,
    what: str,
    broken_claim: str,
) -> None:
    result = prove(family, broken, f"totality.arrivals.{what}")
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert (broken_claim,) in result.counterexample.rows
    assert replayed(result, broken_model)
    assert replayed(result, model) == (file == "vmm/guests")


@pytest.mark.parametrize(
    ("goal", "what"),
    [
        *(one[3:] for one in WAYS_BACK),
        *((f"endings.{one[3]}", one[4]) for one in ENDS),
        *((f"memory.{one[3]}", one[4]) for one in WRITES),
    ],
)
def test_a_wrong_way_back_or_end_is_refuted(
    family: TotalityFamily, broken: ir.Program, broken_model: Model, model: Model, goal: str, what: str
) -> None:
    result = prove(family, broken, f"totality.{goal}")
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert (what,) in result.counterexample.rows
    assert replayed(result, broken_model)
    assert not replayed(result, model)


def test_a_function_without_a_fault_is_proved_beside_them(family: TotalityFamily, broken: ir.Program) -> None:
    assert prove(family, broken, "totality.exits.deliver_event").status is Status.PROVED
    assert prove(family, broken, "totality.handlers.CPUID").status is Status.PROVED
