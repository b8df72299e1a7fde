"""The driver of the parser's tables makes the trees that lark makes, and takes no text that lark refuses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lark import Lark, Tree
from lark import Token as LarkToken
from lark.exceptions import UnexpectedInput

import grammar
from grammar.driver import Driver, Wrong
from grammar.layout import Layout
from grammar.parse import parse
from grammar.tree import ABSENT, UNKNOWN, Node, Token

SOURCES = sorted(grammar.default_directory().rglob("*.isa"))
LARK = Lark(
    (Path(grammar.__file__).parent / "nonroot.lark").read_text(encoding="utf-8"),
    parser="lalr",
    start="item",
    postlex=Layout(),
    propagate_positions=True,
    maybe_placeholders=True,
)
DRIVER = Driver(LARK, "item", {})
Shape = tuple[Any, ...] | None


def of_driver(tree: Node | Token | None) -> Shape:
    match tree:
        case Token():
            return tree.kind, str(tree), tree.start, tree.end
        case Node(data=data, children=children, start=start, end=end):
            return data, [of_driver(child) for child in children], start, end
    return None


def of_lark(tree: Any) -> Shape:
    match tree:
        case LarkToken(type=kind, start_pos=start, end_pos=end):
            return str(kind), str(tree), start, end
        case Tree(data=data, children=children, meta=meta):
            start = getattr(meta, "start_pos", ABSENT)
            end = getattr(meta, "end_pos", ABSENT)
            return str(data), [of_lark(child) for child in children], start, UNKNOWN if end is None else end
    return None


def texts(path: Path) -> list[str]:
    items = parse(path.read_text(encoding="utf-8"), path.name).items
    return ["\n".join(item.lines) + "\n" for item in items]


@pytest.mark.parametrize("number", range(0, len(SOURCES), 4))
def test_trees_are_those_of_lark(number: int) -> None:
    for text in texts(SOURCES[number]):
        assert of_driver(DRIVER.parse(text)) == of_lark(LARK.parse(text)), text


def test_what_lark_refuses_is_refused() -> None:
    source = random.Random(1)
    every = [text for path in source.sample(SOURCES, 12) for text in texts(path)]
    refused = 0
    for text in source.choices(every, k=100):
        place = source.randrange(len(text))
        other = source.choice(["", "(", "]", "\n", "\n  ", " not ", ":", "0x", " when "])
        broken = text[:place] + other + text[place + source.randrange(4) :]
        try:
            expected = of_lark(LARK.parse(broken))
        except UnexpectedInput:
            refused += 1
            with pytest.raises(Wrong):
                DRIVER.parse(broken)
        else:
            assert of_driver(DRIVER.parse(broken)) == expected
    assert 20 < refused < 100
