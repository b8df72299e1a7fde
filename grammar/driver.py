"""Runs the parser's tables, which lark makes of the grammar.

Lark's own driver makes a token of each word, also of those that leave no trace in the tree, and calls a chain of
functions at the end of each rule: for what is left out, what is absent, and places. That takes half of the time of
reading a specification. Here a rule is data (`Rule`), and places are offsets. What is wrong with a text lark says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lark import Lark
from lark.grammar import Rule as LarkRule
from lark.grammar import Terminal
from lark.lexer import BasicLexer, TerminalDef

from grammar.layout import CLOSE, HANGING, OPEN, indent_of, indentation
from grammar.tree import ABSENT, UNKNOWN, Node, Token

_END = "$END"
Make = Callable[[str, list[Any], int, int], Node]


class Wrong(Exception):
    """The text is not of the language."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the end of a rule does: so many values (`length`) are replaced by one.

    That is a node (`make`), or a list of its children, which become children of another. A single child that `passes`
    stands for itself. `selected` says which of the values are children: the number of each, whether it is such a list,
    and how many are absent before it; None if the children are the values. `absent` are so many behind the last.
    """

    name: str
    length: int
    data: str
    make: Make | None
    passes: bool
    selected: tuple[tuple[int, bool, int], ...] | None
    absent: int

    def value(self, values: list[Any], start: int, end: int) -> Any:
        """What the values are replaced by."""
        children = values if self.selected is None else self._children(values)
        if self.make is None:
            return children
        return (
            children[0] if self.passes and len(children) == 1 else self.make(self.data, children, start, end)
        )

    def _children(self, values: list[Any]) -> list[Any]:
        children: list[Any] = []
        for number, is_list, absent in self.selected or ():
            if absent:
                children += [None] * absent
            if is_list:
                children += values[number]
            else:
                children.append(values[number])
        return children + [None] * self.absent if self.absent else children


@dataclass(frozen=True, slots=True)
class Words:
    """The terminals that may come in a state; `keywords` are those that look like another, by that and their text."""

    match: Callable[[str, int], re.Match[str] | None]
    keywords: dict[str, dict[str, str]]


class Driver:
    """A parser with the tables of a lark parser that has a contextual lexer.

    `makers` make the nodes of some rules, by their names.
    """

    def __init__(self, lark: Lark, start: str, makers: Mapping[str, Make]) -> None:
        table = lark.parser.parser._parse_table  # noqa: SLF001  there is no other way to it
        self._begin, self._end = table.start_states[start], table.end_states[start]
        targets = (target for actions in table.states.values() for _, target in actions.values())
        rules = {rule: _rule(rule, makers) for rule in targets if isinstance(rule, LarkRule)}
        self._actions: dict[int, dict[str, Any]] = {
            state: {symbol: rules.get(target, target) for symbol, (_, target) in actions.items()}
            for state, actions in table.states.items()
        }
        self._lexers: Mapping[int, BasicLexer] = lark.parser.lexer.lexer.lexers
        self._keywords = _keywords(lark.terminals)
        self._words: dict[int, Words] = {}
        self._ignored = frozenset(lark.parser.lexer_conf.ignore)
        symbols = (symbol for rule in rules for symbol in rule.expansion)
        self._kept = frozenset(str(s.name) for s in symbols if isinstance(s, Terminal) and not s.filter_out)

    def parse(self, text: str) -> Node:
        """The tree.  Raises `Wrong`."""
        states = [self._begin]
        values: list[Any] = []
        starts: list[int] = []
        ends: list[int] = []
        for kind, start, end in self._words_of(text, states):
            while True:
                action = self._actions[states[-1]].get(kind)
                if action is None:
                    raise Wrong
                if action.__class__ is int:
                    break
                self._reduce(action, states, values, starts, ends)
                if kind == _END and states[-1] == self._end:
                    root: Node = values[-1]
                    return root
            states.append(action)
            values.append(_token(text, kind, start, end) if kind in self._kept else None)
            starts.append(start)
            ends.append(end)
        raise Wrong

    def _reduce(
        self, rule: Rule, states: list[int], values: list[Any], starts: list[int], ends: list[int]
    ) -> None:
        """The end of a rule: its value takes the place of the last ones, from the first that takes room to the last."""
        length = rule.length
        if length == 1:
            states.pop()
            values[-1] = rule.value(values[-1:], starts[-1], ends[-1])
        elif length:
            start = starts[-length]
            if start == ABSENT:
                start = next((one for one in starts[-length:] if one != ABSENT), ABSENT)
            end = ends[-1]
            if end == ABSENT:
                end = next((one for one in ends[: -length - 1 : -1] if one != ABSENT), ABSENT)
            value = rule.value(values[-length:], start, end)
            del states[-length:], values[-length:], starts[-length:], ends[-length:]
            values.append(value)
            starts.append(start)
            ends.append(end)
        else:
            values.append(rule.value([], ABSENT, ABSENT))
            starts.append(ABSENT)
            ends.append(ABSENT)
        states.append(self._actions[states[-1]][rule.name])

    def _words_of(self, text: str, states: list[int]) -> Iterator[tuple[str, int, int]]:
        """The words and the layout: terminal, beginning and end.  What a word is depends on the last state."""
        columns = [0]
        depth = position = 0
        while position < len(text):
            words = self._words.get(states[-1]) or self._words_in(states[-1])
            match = words.match(text, position)
            if match is None:
                raise Wrong
            kind, index = match.lastgroup or "", match.lastindex or 0
            start, position = match.span(index)
            if kind in self._ignored:
                continue
            if kind in words.keywords:
                kind = words.keywords[kind].get(match[index], kind)
            if kind == "_NL":
                if depth == 0:
                    yield kind, start, position
                    yield from ((each, start, position) for each in indentation(match[index], columns))
                    if columns[-1] != indent_of(match[index]):
                        raise Wrong
                continue
            if kind in OPEN:
                depth += 1
            elif kind in CLOSE:
                depth = max(0, depth - 1)
            yield kind, start, position
            if kind in HANGING:
                columns.append(position - text.rfind("\n", 0, position) - 1)
                yield "_NL", start, position
                yield "_INDENT", start, position
        yield from (("_DEDENT", UNKNOWN, UNKNOWN) for _ in columns[1:])
        yield _END, UNKNOWN, UNKNOWN

    def _words_in(self, state: int) -> Words:
        """The words of a state; those of states with the same terminals are the same."""
        lexer = self._lexers[state]
        terminals = {terminal.name: terminal for terminal in lexer.terminals}
        keywords = {
            name: {text: word for text, word in self._keywords[name].items() if word in terminals}
            for name in terminals
            if name in self._keywords
        }
        hidden = {word for words in keywords.values() for word in words.values()}
        patterns = (f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in lexer.terminals if t.name not in hidden)
        # Blanks before a word need no match of their own.
        words = Words(re.compile(f" *(?:{'|'.join(patterns)})").match, keywords)
        self._words |= {other: words for other, one in self._lexers.items() if one is lexer}
        return words


def _token(text: str, kind: str, start: int, end: int) -> Token:
    token = Token(text[start:end])
    token.kind, token.start, token.end = kind, start, end
    return token


def _keywords(terminals: Collection[TerminalDef]) -> dict[str, dict[str, str]]:
    """For terminals that are patterns, the words that they match and that are terminals themselves."""
    words = [terminal for terminal in terminals if terminal.pattern.type == "str"]
    found = {}
    for terminal in terminals:
        if terminal.pattern.type == "re":
            pattern = re.compile(terminal.pattern.to_regexp())
            same = (
                w for w in words if w.priority == terminal.priority and pattern.fullmatch(w.pattern.value)
            )
            found[terminal.name] = {word.pattern.value: word.name for word in same}
    return {name: same for name, same in found.items() if same}


def _rule(rule: LarkRule, makers: Mapping[str, Make]) -> Rule:
    """What lark's options of a rule mean: `_name` is a list, `?name` passes, `[part]` may be absent."""
    absent = 0
    selected: list[tuple[int, bool, int]] = []
    empty = iter(rule.options.empty_indices)
    for number, symbol in enumerate(rule.expansion):
        absent += _count(empty)
        if not (isinstance(symbol, Terminal) and symbol.filter_out):
            is_list = not symbol.is_term and symbol.name.startswith("_")
            selected.append((number, is_list, absent))
            absent = 0
    absent += _count(empty)
    is_plain = not absent and selected == [(n, False, 0) for n in range(len(rule.expansion))]
    name = str(rule.origin.name)
    data = str(rule.alias or name)
    return Rule(
        name=name,
        length=len(rule.expansion),
        data=data,
        make=None if name.startswith("_") else makers.get(data, Node),
        passes=rule.options.expand1 and not rule.alias,
        selected=None if is_plain else tuple(selected),
        absent=absent,
    )


def _count(empty: Iterator[bool]) -> int:
    """How many parts are absent before the next symbol of a rule."""
    count = 0
    for is_absent in empty:
        if not is_absent:
            break
        count += 1
    return count
