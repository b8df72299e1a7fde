"""Solvers that read a question as SMT-LIB text, and so share nothing with z3 but the text."""

from __future__ import annotations

import importlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from checks.solvers.answer import LOGIC, LOGIC_WITH_ARRAYS, Answer

Z3 = "z3"
ALL = "all"
_DECLARED = re.compile(r"^\(declare-fun (\|[^|]*\||\S+)", re.MULTILINE)


class SolverError(Exception):
    """A solver that is not installed, or that cannot read a question: no verdict at all."""


class TextSolver:
    """One solver; `name` with its version is the name by which its answers are remembered.

    Raises SolverError if its Python package is missing.
    """

    def __init__(self, solver: str) -> None:
        package, self._run = _load(solver), _RUN[solver]
        self._package = package
        self.name = f"{solver} {_version(package)}"

    def check(self, script: str, seconds: float) -> Answer:
        """The verdict on a script without a logic of its own.  Raises SolverError if the solver refuses the text.

        So does it if a name has two types: z3 tells such symbols apart, SMT-LIB does not.
        """
        start = time.monotonic()
        if twice := [name for name, times in Counter(_DECLARED.findall(script)).items() if times > 1]:
            raise SolverError(f"the question declares {twice[0]} twice, which is no SMT-LIB")
        try:
            logic = LOGIC_WITH_ARRAYS if "(Array " in script else LOGIC
            verdict, reason = self._run(self._package, f"(set-logic {logic})\n{script}", seconds)
        except SolverError:
            raise
        except Exception as error:  # each package has errors of its own
            raise SolverError(f"{self.name} cannot read the question: {error}") from error
        return Answer(verdict, time.monotonic() - start, reason=reason)


@cache
def text_solver(solver: str) -> TextSolver:
    """The solver of that name.  Raises SolverError if its package is missing."""
    return TextSolver(solver)


def chosen(name: str) -> tuple[str, ...]:
    """The solvers that a name on the command line stands for."""
    return (Z3, *_RUN) if name == ALL else (name,)


def _load(solver: str) -> Any:
    try:
        return importlib.import_module(solver)
    except ImportError as error:
        raise SolverError(f"the solver {solver} is not installed: pip install {solver}") from error


def _version(package: Any) -> str:
    version = getattr(package, "version", None)
    return str(version()) if callable(version) else str(package.__version__)


def _cvc5(cvc5: Any, script: str, seconds: float) -> tuple[str, str]:
    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("tlimit-per", str(int(seconds * 1000)))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "question")
    for answer in _commands(cvc5, solver, parser):
        if answer:
            verdict, _, reason = answer.strip().partition(" ")  # "unknown (TIMEOUT)"
            return _verdict(verdict), reason.strip("()").lower()
    raise SolverError("cvc5 gave no answer")


def _commands(cvc5: Any, solver: Any, parser: Any) -> Iterator[str]:
    """What each command of the script prints."""
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        printed = str(command.invoke(solver, symbols))
        if printed.startswith("(error"):
            raise SolverError(f"cvc5 {cvc5.__version__} cannot read the question: {printed.strip()}")
        yield printed


def _bitwuzla(bitwuzla: Any, script: str, seconds: float) -> tuple[str, str]:
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, int(seconds * 1000))
    terms = bitwuzla.TermManager()
    parser = bitwuzla.Parser(terms, options)
    parser.parse(script.replace("(check-sat)", ""), True, False)
    verdict = str(parser.bitwuzla().check_sat()).rsplit(".", 1)[-1].lower()
    return _verdict(verdict), "timeout" if verdict == "unknown" else ""


def _verdict(word: str) -> str:
    if word not in ("sat", "unsat", "unknown"):
        raise SolverError(f"neither sat nor unsat nor unknown: {word}")
    return word


_RUN: dict[str, Callable[[Any, str, float], tuple[str, str]]] = {"cvc5": _cvc5, "bitwuzla": _bitwuzla}
