"""The prefix tree: shared prefixes become nodes, and every sequence keeps tokens of its own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from evalkit.model.engine.prefix_tree import MIN_PREFIX_TOKENS, Leaf, Node, build_prefix_tree, cut_node, cut_rest

IMAGE = 100  # tokens


def _length(element: int) -> int:
    return IMAGE if element < 0 else 1


def _nodes(leaves: list[Leaf]) -> set[Node]:
    return {node for leaf in leaves if leaf.node is not None for node in leaf.node.chain()}


def test_questions_about_one_image_share_node() -> None:
    leaves = build_prefix_tree([(1, -1, 5, 6), (1, -2, 5), (1, -1, 7), (1, -1, 5, 8)], _length)
    assert len(_nodes(leaves)) == 1
    (node,) = _nodes(leaves)
    assert (node.start, node.end, node.waiting) == (0, 2, 3)
    assert {leaf.index for leaf in leaves if leaf.node is node} == {0, 2, 3}
    assert [leaf.start for leaf in leaves if leaf.index == 1] == [0]


def test_few_shot_examples_are_above_images() -> None:
    shots = (1, -9, 2, 3, -8, 4)
    leaves = build_prefix_tree([(*shots, -1, 5), (*shots, -1, 6), (*shots, -2, 5), (*shots, -2, 6)], _length)
    spans = {tuple((node.start, node.end) for node in leaf.node.chain()) for leaf in leaves if leaf.node is not None}
    assert spans == {((0, 6), (6, 7))}
    top = {leaf.node.chain()[0] for leaf in leaves if leaf.node is not None}
    assert len(top) == 1
    assert top.pop().waiting == 4
    assert len(_nodes(leaves)) == 3


def test_short_prefixes_get_no_node() -> None:
    system = tuple(range(MIN_PREFIX_TOKENS - 1))
    assert not _nodes(build_prefix_tree([(*system, -1, 5), (*system, -2, 5)], _length))
    system = tuple(range(MIN_PREFIX_TOKENS))
    assert len(_nodes(build_prefix_tree([(*system, -1, 5), (*system, -2, 5)], _length))) == 1


def test_equal_requests_keep_their_last_token() -> None:
    leaves = build_prefix_tree([(1, -1, 5, 6)] * 3 + [(1, -1, 5, 6, 7)], _length)
    assert {leaf.start for leaf in leaves} == {3}
    assert sorted(leaf.index for leaf in leaves) == [0, 1, 2, 3]


def test_longest_first() -> None:
    leaves = build_prefix_tree([(1, 2), (3, -1, 4), (5, -2, -3, 6), (5, -2, -3, 7, 8)], _length)
    assert [leaf.index for leaf in leaves] == [3, 2, 1, 0]


def test_without_sharing_there_are_no_nodes() -> None:
    leaves = build_prefix_tree([(1, -1, 5), (1, -1, 6)], _length, share=False)
    assert [leaf.node for leaf in leaves] == [None, None]


def test_deeply_nested_prefixes() -> None:
    rows = [tuple(range(n)) for n in range(1, 1500)]
    assert sorted(leaf.index for leaf in build_prefix_tree(rows, _length)) == list(range(1499))


sequences = st.lists(st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=1, max_size=8).map(tuple), min_size=1)


@given(sequences, st.booleans())
def test_nodes_are_prefixes_of_sequences_below_them(rows: list[tuple[int, ...]], share: bool) -> None:
    leaves = build_prefix_tree(rows, _length, share)
    assert sorted(leaf.index for leaf in leaves) == list(range(len(rows)))
    below: dict[Node, list[int]] = {}
    for leaf in leaves:
        assert leaf.start < len(rows[leaf.index])
        at = 0
        for node in leaf.node.chain() if leaf.node is not None else []:
            assert node.start == at < node.end
            at = node.end
            below.setdefault(node, []).append(leaf.index)
    for node, found in below.items():
        assert node.waiting == len(found) >= 2
        assert len({rows[row][: node.end] for row in found}) == 1
        assert sum(map(_length, rows[found[0]][node.start : node.end])) >= MIN_PREFIX_TOKENS
        places = [at for at, leaf in enumerate(leaves) if leaf.index in found]
        assert places == list(range(places[0], places[0] + len(found)))  # together


@given(st.lists(st.integers(-4, 30).filter(bool), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 10))
def test_long_prompts_are_cut_within_limit(elements: list[int], most: int, shared: int) -> None:
    """Parts follow one another, and only a single element (an image) may exceed the limit."""

    def length(element: int) -> int:
        return 1 if element >= 0 else -7 * element

    prompt = tuple(elements)
    node = Node(None, 0, min(shared, len(prompt) - 1), waiting=2) if min(shared, len(prompt) - 1) else None
    if node is not None:
        cut_node(node, prompt, length, most)
        assert all(above.waiting == 2 for above in node.chain())
        assert [above.part for above in node.chain()] == [True] * (len(node.chain()) - 1) + [False]
    leaf = cut_rest(Leaf(0, node), prompt, length, most)
    chain = leaf.node.chain() if leaf.node is not None else []
    ends = [0, *(one.end for one in chain), len(prompt)]
    assert [one.start for one in chain] == ends[:-2]
    assert ends == sorted(set(ends))
    for start, end in pairwise(ends):
        assert end == start + 1 or sum(map(length, prompt[start:end])) <= most
