"""The IR in the notation of the specification, for the descriptions of mutants."""

from __future__ import annotations

from grammar import ir


def shown(node: ir.Expr) -> str:
    """An expression, in about the words of its source."""
    match node:
        case ir.Literal():
            return _literal(node)
        case ir.Local() | ir.OperandRead():
            return node.name
        case ir.Read():
            return node.name + (f"[{_list(node.indices)}]" if node.indices else "")
        case ir.ReadMemory():
            return f"{node.memory}[{shown(node.address)}, {node.type.width}]"
        case ir.FieldOf():
            return f"{shown(node.base)}.{node.name}"
        case ir.Slice():
            return f"{shown(node.base)}{_slice(node.base, node.high, node.low)}"
        case ir.Bit():
            return _bit(node)
        case ir.Call():
            return f"{node.function}({_list(node.arguments)})"
    return _operation(node)


def _operation(node: ir.Expr) -> str:
    """An expression made of others."""
    match node:
        case ir.Unary():
            return (
                f"{node.op} {shown(node.operand)}" if node.op == "not" else f"{node.op}{shown(node.operand)}"
            )
        case ir.Binary():
            return f"({shown(node.left)} {node.op} {shown(node.right)})"
        case ir.Concat():
            return "(" + " ++ ".join(shown(part) for part in node.parts) + ")"
        case ir.Extend() | ir.Cast():
            return shown(node.base)
        case ir.Undefined():
            return shown(node.value)
        case ir.Conditional():
            return f"if {shown(node.condition)} then {shown(node.then)} else {shown(node.otherwise)}"
        case ir.ForAll():
            bounds = f"{shown(node.first)}..{shown(node.last)}"
            return f"for all {node.name} in {bounds}: {shown(node.condition)}"
        case ir.MakeStruct():
            return f"{node.type} {{{_list(node.values)}}}"
        case ir.UpdateStruct():
            return f"{shown(node.base)} with {{{', '.join(name for name, _ in node.changes)}}}"
        case ir.UpdateBits():
            names = (range_name(node.type, high, low) for high, low, _ in node.changes)
            return f"{shown(node.base)} with {{{', '.join(names)}}}"
        case ir.OperandAttribute():
            return f"{node.name}.{node.attribute}"
        case ir.Holds():
            return f"holds({node.group})"
    return "instruction_length"


def range_name(type_: ir.Type, high: int, low: int) -> str:
    """The name of a range of bits, if it is a field, or its numbers."""
    if isinstance(type_, ir.Bitfield):
        for member in type_.members:
            if (member.high, member.low) == (high, low):
                return member.name
    return str(low) if high == low else f"{high}..{low}"


def statement_shown(statement: ir.Stmt) -> str:
    """What a statement does, in a few words."""
    match statement:
        case ir.WriteState():
            at = f"[{_list(statement.indices)}]" if statement.indices else ""
            return f"{statement.name}{at} := {shown(statement.value)}"
        case ir.WriteMemory():
            return f"{statement.memory}[{shown(statement.address)}] := {shown(statement.value)}"
        case ir.SetLocal() | ir.WriteOperand():
            return f"{statement.name} := {shown(statement.value)}"
        case ir.CallStatement():
            return shown(statement.call)
        case ir.If():
            return f"{statement.clause}: {shown(statement.condition)}"
        case ir.Forget():
            return f"forget {statement.function}" + (f"({_list(statement.keys)})" if statement.keys else "")
        case ir.Output():
            return f"{statement.name}({_list(statement.arguments)})"
    return type(statement).__name__.lower()


def _literal(node: ir.Literal) -> str:
    if isinstance(node.type, ir.Bool):
        return "true" if node.value else "false"
    if isinstance(node.type, ir.Enum):
        names = (name for name, value in node.type.members if value == node.value)
        return next(names, hex(node.value))
    return str(node.value) if node.value < 10 else hex(node.value)


def _slice(base: ir.Expr, high: int, low: int) -> str:
    name = range_name(base.type, high, low)
    return f"[{name}]" if name[0].isdigit() else f".{name}"


def _bit(node: ir.Bit) -> str:
    if isinstance(node.index, ir.Literal):
        return shown(node.base) + _slice(node.base, node.index.value, node.index.value)
    return f"{shown(node.base)}[{shown(node.index)}]"


def _list(expressions: tuple[ir.Expr, ...]) -> str:
    return ", ".join(shown(one) for one in expressions)
