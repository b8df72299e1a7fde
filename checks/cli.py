"""The command line.  Each command is a module of `checks.commands`, imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

STARTED = time.monotonic()
"""When the process began, but for the interpreter's own start."""
EXIT_USAGE = 2
EXIT_INTERNAL = 5
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141

OWN = ("checks", "fastmodel", "grammar", "refmodel", "spec")
PACKAGES = {  # where the names differ
    "bochscpu": "bochscpu-python",
    "elftools": "pyelftools",
    "iced_x86": "iced-x86",
    "z3": "z3-solver",
}

DESCRIPTION = "A machine-checked specification of x86 virtualization: run it, prove it, fuzz it."

EPILOG = """\
A first tour:
  nonroot list                               what is specified, and what is known of it
  nonroot show MOV_TO_CR3                    one instruction: spec, generated code, exits, verdict
  nonroot prove 'trap.RDMSR.*'               prove some theorems (all without arguments)
  nonroot run examples/hello.asm examples/attacker.asm   two guests side by side
  nonroot fuzz --seconds 10                  compare the fast model with the reference

Exit status: 0 success, 1 a difference, a refuted theorem or a guest that was stopped,
2 usage or specification error, 3 unknown or time-out, 4 vacuous theorem, 5 internal error,
130 interrupted (Ctrl-C, SIGTERM), with what was found until then, 141 nobody reads the output.
`nonroot COMMAND --help` explains each command with examples.
"""


@dataclass(frozen=True)
class Command:
    """A command's name, what it does in one line, and examples for its help."""

    name: str
    summary: str
    examples: tuple[str, ...]


COMMANDS = (
    Command(
        "check",
        "check specification files and report every error with its place",
        (
            "nonroot check",
            "nonroot check spec/cpu/paging.isa",
            "nonroot check --spec DIR --encodings sample   the opcode tables against iced-x86",
        ),
    ),
    Command(
        "fmt",
        "lay out specification files",
        ("nonroot fmt", "nonroot fmt --check", "nonroot fmt spec/cpu/paging.isa"),
    ),
    Command(
        "list",
        "list instructions, handlers, steps and policies",
        ("nonroot list", "nonroot list theorems", "nonroot list --missing"),
    ),
    Command(
        "show",
        "show an instruction: spec, generated code, exits and verdict",
        ("nonroot show CLTS", "nonroot show MOV_TO_CR3"),
    ),
    Command(
        "run",
        "run guest images, several side by side",
        (
            "nonroot run examples/hello.asm",
            "nonroot run examples/attacker.asm b.elf c.bin --engine fast",
            "nonroot run examples/hello.asm --trace --max-steps 20",
        ),
    ),
    Command(
        "asm",
        "assemble a guest into a flat image",
        ("nonroot asm examples/hello.asm --listing", "nonroot asm examples/hello.asm -o hello.bin"),
    ),
    Command(
        "prove",
        "prove the theorems",
        (
            "nonroot prove",
            "nonroot prove CLTS                 all about one instruction",
            "nonroot prove 'trap.RDMSR.*' -j 2",
            "nonroot prove --json results.json --junit results.xml",
        ),
    ),
    Command(
        "matrix",
        "show what makes each instruction exit, what virtualizes it, and which policies it needs",
        (
            "nonroot matrix",
            "nonroot matrix HLT SMSW",
            "nonroot matrix --policies",
            "nonroot matrix --vmx-off",
            "nonroot matrix --check docs/trap-matrix.md",
        ),
    ),
    Command(
        "replay",
        "replay a counterexample, a fuzz case or recorded vectors on a model",
        ("nonroot replay counterexamples/x.json", "nonroot replay cases.jsonl.gz -o out.jsonl"),
    ),
    Command(
        "mutate",
        "put small faults into the specification; a theorem must notice each",
        (
            "nonroot mutate --sample 50",
            "nonroot mutate release CLTS -v",
            "nonroot mutate -j 2 --json mutants.json",
        ),
    ),
    Command(
        "gallery",
        "put historical bugs of hypervisors into the specification, and see them found",
        ("nonroot gallery -j 2 --json gallery.json", "nonroot gallery XSA-100", "nonroot gallery --list"),
    ),
    Command(
        "fuzz",
        "compare two engines on random cases derived from the specification",
        (
            "nonroot fuzz --seconds 30",
            "nonroot fuzz --cases 2000 --seed 7",
            "nonroot fuzz --mode=ci --junit fuzz.xml --json fuzz.json   in continuous integration",
            "nonroot fuzz --mode=batch --corpus corpus                  a long run, which can be gone on with",
            "nonroot fuzz --engine unicorn --instruction ADC",
        ),
    ),
    Command(
        "bench",
        "measure the engines side by side on the same machine code",
        ("nonroot bench", "nonroot bench --repeats 9 --json bench.json"),
    ),
)


def script() -> int:
    """The console script: a command that is killed ends as after Ctrl-C, and keeps what it has found."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return main()


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit status; without `arguments`, what the process was started for."""
    argv, began = (sys.argv[1:], STARTED) if arguments is None else (arguments, time.monotonic())
    try:
        status = _dispatch(argv, began)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: nobody is left to tell.  Python would complain again at exit.
        # The status is that of a program that SIGPIPE ends: what a proof has found must not look like success.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO_READER
    except Exception:  # noqa: BLE001 - a bug of ours: no other status may stand for it
        import traceback  # nobody else needs it

        traceback.print_exc()
        print("nonroot: internal error; please report it with the lines above", file=sys.stderr)
        return EXIT_INTERNAL


def _dispatch(argv: list[str], began: float) -> int:
    """Runs a command; `args.began` says when that began, by the monotonic clock."""
    chosen = next((word for word in argv if not word.startswith("-")), None)
    args = _parser(chosen).parse_args(argv, argparse.Namespace(began=began))
    module = _module(args.command)
    return _run(module, args)


def _run(module: ModuleType, args: argparse.Namespace) -> int:
    """Runs a command; errors of the user's input are one line, errors of ours a traceback and status 5."""
    from checks.errors import UsageError
    from grammar import SpecificationError

    try:
        status: int = module.run(args)
        return status
    except SpecificationError as error:
        print(error.render(), file=sys.stderr)
        return EXIT_USAGE
    except UsageError as error:
        print(f"nonroot: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        package = _package(error.name or "")
        if package is None:
            raise
        print(f"nonroot: {args.command} needs the package {package}: pip install {package}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"nonroot: {error.filename or args.command}: {error.strerror or error}", file=sys.stderr)
        return EXIT_USAGE


def _package(module: str) -> str | None:
    """The package that has a module that is missing; None if it should be one of ours."""
    top = module.partition(".")[0]
    return None if top in OWN else PACKAGES.get(top, top)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"checks.commands.{name}")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser.  Only the chosen command's module is imported, for its arguments."""
    parser = argparse.ArgumentParser(
        prog="nonroot",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog="Examples:\n" + "".join(f"  {example}\n" for example in command.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.name == chosen:
            subparser.add_argument(
                "--spec", type=Path, metavar="DIR", help="specification directory (default: the built-in one)"
            )
            _module(command.name).add_arguments(subparser)
    return parser


class _Version(argparse.Action):
    """Prints the version.  What knows it takes a while to load."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("nonroot")
        except PackageNotFoundError:
            number = "(not installed)"
        print(f"nonroot {number}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(script())
