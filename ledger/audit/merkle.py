"""Merkle trees after RFC 6962: roots, the proofs that something is in one, and their checks.

Knows nothing of databases: whoever asks for a proof hands in a function that gives the root over a
range of leaves. Checks are strict (RFC 9162, sections 2.1.3.2 and 2.1.4.2): every hash has 32 bytes
and a proof has exactly as many as its sizes ask for.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "STRIDE",
    "Frontier",
    "Roots",
    "consistency_path",
    "fold",
    "inclusion_path",
    "leaf_hash",
    "node_hash",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
# Roots of full subtrees are kept at every eighth height: one for 256 leaves, one for 65,536, …
STRIDE: Final = 8

# Gives the root over the leaves from the first index up to, not including, the second one.
Roots = Callable[[int, int], bytes]
_sha256 = hashlib.sha256


def leaf_hash(data: bytes) -> bytes:
    """Hash what a leaf holds."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one."""
    return _sha256(b"\x01" + left + right).digest()


def fold(peaks: Sequence[bytes]) -> bytes:
    """Join the roots of full subtrees, the largest first, into the root over all of them."""
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


class Frontier:
    """The right-hand edge of a growing tree: all that appending needs.

    Attributes:
        size: Leaves so far.
        peaks: Roots of the full subtrees, the largest first; as many as `size` has binary ones.
        made: Subtrees that became full, at every eighth height: (height / 8, index, hash). Whoever
            stores them empties the list.
    """

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Go on where a tree of `size` leaves ended."""
        self.size = size
        self.peaks = list(peaks)
        self.made: list[tuple[int, int, bytes]] = []

    def append(self, leaf: bytes) -> None:
        """Add the hash of one leaf."""
        node, index, height = leaf, self.size, 0
        while index & 1:
            node = _sha256(b"\x01" + self.peaks.pop() + node).digest()
            index >>= 1
            height += 1
            if not height % STRIDE:
                self.made.append((height // STRIDE, index, node))
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Give the root over all leaves so far."""
        return fold(self.peaks) if self.peaks else EMPTY_ROOT


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Give the root over hashes of leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_path(index: int, size: int, roots: Roots) -> list[bytes]:
    """Prove that a leaf is in a tree (RFC 6962, section 2.1.1).

    Args:
        index: The leaf's, from 0.
        size: Leaves of the tree.
        roots: Gives roots over ranges of it.

    Raises:
        ValueError: The tree has no such leaf.
    """
    if not 0 <= index < size:
        msg = f"A tree of {size} leaves has no leaf {index}."
        raise ValueError(msg)
    path, start, end = [], 0, size
    while end - start > 1:
        split = start + _left(end - start)
        if index < split:
            path.append(roots(split, end))
            end = split
        else:
            path.append(roots(start, split))
            start = split
    return path[::-1]


def consistency_path(old: int, new: int, roots: Roots) -> list[bytes]:
    """Prove that the tree of `old` leaves is how that of `new` leaves begins (section 2.1.2).

    Raises:
        ValueError: `old` is not from 1 to `new`.
    """
    if not 0 < old <= new:
        msg = f"No consistency can be shown from {old} to {new} leaves."
        raise ValueError(msg)
    path, start, end = [], 0, new
    while old != end:
        split = start + _left(end - start)
        if old <= split:
            path.append(roots(split, end))
            end = split
        else:
            path.append(roots(start, split))
            start = split
    if start:
        path.append(roots(start, end))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> bool:
    """Check a proof that a leaf is in a tree.

    Args:
        leaf: The leaf's hash.
        index: Its index.
        size: Leaves of the tree.
        path: The proof.
        root: The tree's.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *path):
        return False
    first, second, node = index, size - 1, leaf
    for other in path:
        if not second:
            return False
        if first & 1 or first == second:
            node = node_hash(other, node)
            while not first & 1 and first:
                first >>= 1
                second >>= 1
        else:
            node = node_hash(node, other)
        first >>= 1
        second >>= 1
    return not second and node == root


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Check a proof that one tree is how another one begins."""
    if not 0 < old <= new or not _are_hashes(old_root, new_root, *path):
        return False
    if old == new:
        return not path and old_root == new_root
    # A whole subtree stands for itself.
    line = list(path) if old & (old - 1) else [old_root, *path]
    if not line:
        return False
    first, second = old - 1, new - 1
    while first & 1:
        first >>= 1
        second >>= 1
    of_old = of_new = line[0]
    for other in line[1:]:
        if not second:
            return False
        if first & 1 or first == second:
            of_old, of_new = node_hash(other, of_old), node_hash(other, of_new)
            while not first & 1 and first:
                first >>= 1
                second >>= 1
        else:
            of_new = node_hash(of_new, other)
        first >>= 1
        second >>= 1
    return not second and of_old == old_root and of_new == new_root


def _left(leaves: int) -> int:
    """Give the largest power of two below a number of leaves."""
    return 1 << (leaves - 1).bit_length() - 1


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
