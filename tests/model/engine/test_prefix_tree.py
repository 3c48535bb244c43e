"""The prefix tree: what requests have in common is found once, and every row is left something of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalkit.model.engine.prefix_tree import LONG_ENOUGH, Leaf, Node, grow

IMAGE = 100  # tokens


def _length(part: int) -> int:
    return IMAGE if part < 0 else 1


def _nodes(leaves: list[Leaf]) -> set[Node]:
    return {node for leaf in leaves if leaf.node is not None for node in leaf.node.chain()}


def test_questions_of_one_image_hang_on_one_node() -> None:
    leaves = grow([(1, -1, 5, 6), (1, -2, 5), (1, -1, 7), (1, -1, 5, 8)], _length)
    assert len(_nodes(leaves)) == 1
    (node,) = _nodes(leaves)
    assert (node.start, node.end, node.waiting) == (0, 2, 3)
    assert {leaf.row for leaf in leaves if leaf.node is node} == {0, 2, 3}
    assert [leaf.start for leaf in leaves if leaf.row == 1] == [0]


def test_fixed_exemplars_are_above_the_images() -> None:
    shots = (1, -9, 2, 3, -8, 4)
    leaves = grow([(*shots, -1, 5), (*shots, -1, 6), (*shots, -2, 5), (*shots, -2, 6)], _length)
    spans = {tuple((node.start, node.end) for node in leaf.node.chain()) for leaf in leaves if leaf.node is not None}
    assert spans == {((0, 6), (6, 7))}
    top = {leaf.node.chain()[0] for leaf in leaves if leaf.node is not None}
    assert len(top) == 1
    assert top.pop().waiting == 4
    assert len(_nodes(leaves)) == 3


def test_short_beginnings_are_not_worth_a_node() -> None:
    system = tuple(range(LONG_ENOUGH - 1))
    assert not _nodes(grow([(*system, -1, 5), (*system, -2, 5)], _length))
    system = tuple(range(LONG_ENOUGH))
    assert len(_nodes(grow([(*system, -1, 5), (*system, -2, 5)], _length))) == 1


def test_equal_requests_keep_their_last_token() -> None:
    leaves = grow([(1, -1, 5, 6)] * 3 + [(1, -1, 5, 6, 7)], _length)
    assert {leaf.start for leaf in leaves} == {3}
    assert sorted(leaf.row for leaf in leaves) == [0, 1, 2, 3]


def test_longest_first() -> None:
    leaves = grow([(1, 2), (3, -1, 4), (5, -2, -3, 6), (5, -2, -3, 7, 8)], _length)
    assert [leaf.row for leaf in leaves] == [3, 2, 1, 0]


def test_without_sharing_there_are_no_nodes() -> None:
    leaves = grow([(1, -1, 5), (1, -1, 6)], _length, share=False)
    assert [leaf.node for leaf in leaves] == [None, None]


def test_many_beginnings_of_beginnings() -> None:
    rows = [tuple(range(n)) for n in range(1, 1500)]
    assert sorted(leaf.row for leaf in grow(rows, _length)) == list(range(1499))


sequences = st.lists(st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=1, max_size=8).map(tuple), min_size=1)


@given(sequences, st.booleans())
def test_every_row_once_and_nodes_are_what_rows_begin_with(rows: list[tuple[int, ...]], share: bool) -> None:
    leaves = grow(rows, _length, share)
    assert sorted(leaf.row for leaf in leaves) == list(range(len(rows)))
    below: dict[Node, list[int]] = {}
    for leaf in leaves:
        assert leaf.start < len(rows[leaf.row])
        at = 0
        for node in leaf.node.chain() if leaf.node is not None else []:
            assert node.start == at < node.end
            at = node.end
            below.setdefault(node, []).append(leaf.row)
    for node, found in below.items():
        assert node.waiting == len(found) >= 2
        assert len({rows[row][: node.end] for row in found}) == 1
        assert sum(map(_length, rows[found[0]][node.start : node.end])) >= LONG_ENOUGH
        places = [at for at, leaf in enumerate(leaves) if leaf.row in found]
        assert places == list(range(places[0], places[0] + len(found)))  # together
