"""Which faults the mutation run plants: the operators of cosmic-ray and three of our own, one mutant per distinct text.

Annotations and the names of types are left as they are: a fault there is found by mypy, or by no test.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from parso.python.tree import Keyword, Name

Place = tuple[tuple[int, int], tuple[int, int]]

# They make many variants of one place, nearly all of which stop at the first import.
LEFT_OUT = ("VariableReplacer", "VariableInserter", "RemoveDecorator", "ExceptionReplacer")
# Of the 11 other operators that may stand for one, the nearest neighbour, which tests miss most easily.
REPLACED = {
    "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div", "Mod_FloorDiv", "Pow_Mul", "BitAnd_BitOr",
    "BitOr_BitAnd", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_Gt",
    "Gt_Lt", "LtE_GtE", "GtE_LtE",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One planted fault: a place in a file, and the text of the whole file with the fault in it."""

    path: str
    line: int
    operator: str
    source: str


class DropCall:
    """Leaves out a statement that is a call or a raise: a check that is never made."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        """The statement, when it does something and binds no name."""
        if node.type == "simple_stmt" and node.children[0].type in ("atom_expr", "raise_stmt"):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        """`pass` in its place."""
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, first.get_first_leaf().prefix)
        return node


class DropArgument:
    """Leaves out one keyword argument of a call: an option that does nothing."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        """Every `name=value` between the brackets."""
        for argument in _keyword_arguments(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """The call without it and without the comma behind it."""
        at = node.children.index(_keyword_arguments(node)[index])
        comma = at + 1 < len(node.children) and node.children[at + 1] == ","
        del node.children[at : at + 1 + comma]
        return node


class ReturnNothing:
    """Returns None in place of a value."""

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        """Every `return` with a value."""
        if node.type == "return_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        """`return None`."""
        node.children[1] = Name("None", node.children[1].start_pos, " ")
        return node


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every fault that the operators can plant in a file, in the order of its lines."""
    tree, spared = get_ast(source), _annotations(source)
    found: dict[str, Mutant] = {}
    for name, operator in _operators():
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(places):
            if any(first <= start and end <= last for first, last in spared):
                continue
            mutated = mutate_code(source, operator, occurrence)
            if mutated not in (None, source):
                found.setdefault(mutated, Mutant(path, start[0], name, mutated))
    return sorted(found.values(), key=lambda mutant: (mutant.line, mutant.operator))


def _operators() -> Iterator[tuple[str, Any]]:
    """Those of cosmic-ray that are worth their time, and ours."""
    for full_name in cosmic_ray.plugins.operator_names():
        name = full_name.removeprefix("core/")
        pair = name.partition("_")[2]
        if name in LEFT_OUT or (pair and name.startswith("Replace") and "Operator_" in name and pair not in REPLACED):
            continue
        yield name, cosmic_ray.plugins.get_operator(full_name)()
    yield from ((ours.__name__, ours()) for ours in (DropCall, DropArgument, ReturnNothing))


def _keyword_arguments(node: Any) -> list[Any]:
    if node.type not in ("arglist", "trailer"):
        return []
    return [child for child in node.children if child.type == "argument" and child.children[1] == "="]


def _annotations(source: str) -> list[Place]:
    """Where annotations stand, and where two types or more are joined by a bar outside of one."""
    spared: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            spared += [node.returns] if node.returns else []
        elif isinstance(node, ast.arg | ast.AnnAssign):
            spared += [node.annotation] if node.annotation else []
    return [((n.lineno, n.col_offset), (n.end_lineno or n.lineno, n.end_col_offset or 0)) for n in spared]
