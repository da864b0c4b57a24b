"""Small functions over numpy arrays that numba compiles for the processor it finds: what a network does to a few rows.

Torch takes 5 to 20 microseconds to start an operation; over few rows that is more than most operations take. These are
compiled when they are first called; the result is kept beside this file or in the user's cache. All of them and what
they are given are in this file, for what numba keeps is made anew only where the file of a function itself has changed.
"""

import functools
from collections.abc import Callable
from math import factorial
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float32]
Linear = tuple[Float, Float]
Norm = tuple[Float, Float, np.float32]
"""Weights [out, in] and bias [out]; of a norm also what is added to the variance."""
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TILE = 64  # rows of weights that the nearest cache has room for
_LEAST, _BITS_PER_E = np.float32(-87), np.float32(np.log2(np.e))
# Of a power of two, and of the error function.
_E1, _E2, _E3, _E4, _E5, _E6 = (np.float32(np.log(2) ** n / factorial(n)) for n in range(1, 7))
_A1, _A2, _A3, _A4, _A5 = map(np.float32, (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))
_ERF_P = np.float32(0.3275911 * 0.5**0.5)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    """Compile it. Sums may be reordered, so that they are taken in the processor's vectors."""
    # A division that may raise has no place in a vector.
    make: Any = functools.partial(njit, fastmath=True, nogil=True, error_model="numpy")
    try:
        return cast("_Function", make(cache=True)(function))
    except RuntimeError:  # nowhere to keep it: compiled anew by every process
        return cast("_Function", make()(function))


# Each of the next three by itself: of all of them in one function the compiler makes half as much. Two rows of weights
# at a time, so that what is loaded of x is used twice; of an odd number the last one counts twice.


@_compiled
def _by_one(weights: NDArray[Any], x0: Float, y0: Float) -> None:
    for o in range(0, len(weights), 2):
        p = min(o + 1, len(weights) - 1)
        first, second = weights[o], weights[p]
        a0 = b0 = _ZERO
        for k in range(len(x0)):
            a0 += np.float32(first[k]) * x0[k]
            b0 += np.float32(second[k]) * x0[k]
        y0[o], y0[p] = a0, b0


@_compiled
def _by_two(weights: NDArray[Any], x: Float, y: Float) -> None:
    x0, x1 = x[0], x[1]
    for o in range(0, len(weights), 2):
        p = min(o + 1, len(weights) - 1)
        first, second = weights[o], weights[p]
        a0 = a1 = b0 = b1 = _ZERO
        for k in range(len(x0)):
            a, b = np.float32(first[k]), np.float32(second[k])
            a0 += a * x0[k]
            a1 += a * x1[k]
            b0 += b * x0[k]
            b1 += b * x1[k]
        y[0, o], y[1, o], y[0, p], y[1, p] = a0, a1, b0, b1


@_compiled
def _by_four(weights: NDArray[Any], x: Float, y: Float) -> None:
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    for o in range(0, len(weights), 2):
        p = min(o + 1, len(weights) - 1)
        first, second = weights[o], weights[p]
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = _ZERO
        for k in range(len(x0)):
            a, b = np.float32(first[k]), np.float32(second[k])
            a0 += a * x0[k]
            a1 += a * x1[k]
            a2 += a * x2[k]
            a3 += a * x3[k]
            b0 += b * x0[k]
            b1 += b * x1[k]
            b2 += b * x2[k]
            b3 += b * x3[k]
        y[0, o], y[1, o], y[2, o], y[3, o] = a0, a1, a2, a3
        y[0, p], y[1, p], y[2, p], y[3, p] = b0, b1, b2, b3


@_compiled
def product(weights: NDArray[Any], x: Float, out: Float) -> None:
    """Weights [out, in] of any kind of number, x [N, in] -> out [N, out]. Weights are read from memory once."""
    rows = len(x)
    fours = rows // 4 * 4
    for o in range(0, len(weights), _TILE):
        tile = slice(o, min(o + _TILE, len(weights)))
        for n in range(0, fours, 4):
            _by_four(weights[tile], x[n : n + 4], out[n : n + 4, tile])
        if rows - fours >= 2:
            _by_two(weights[tile], x[fours : fours + 2], out[fours : fours + 2, tile])
        if rows % 2:
            _by_one(weights[tile], x[rows - 1], out[rows - 1, tile])


@_compiled
def unit(x: Float, eps: np.float32, out: Float) -> None:
    """A vector over its root mean square."""
    squares = _ZERO
    for k in range(len(x)):
        squares += x[k] * x[k]
    factor = _ONE / np.sqrt(squares / np.float32(len(x)) + eps)
    for k in range(len(x)):
        out[k] = x[k] * factor


@_compiled
def layer_norm(x: Float, weight: Float, bias: Float, eps: np.float32, out: Float) -> None:
    """Of a vector."""
    width = np.float32(len(x))
    total = squares = _ZERO
    for k in range(len(x)):
        total += x[k]
    mean = total / width
    for k in range(len(x)):
        squares += (x[k] - mean) * (x[k] - mean)
    factor = _ONE / np.sqrt(squares / width + eps)
    for k in range(len(x)):
        out[k] = (x[k] - mean) * factor * weight[k] + bias[k]


@_compiled
def decay(x: Float) -> None:
    """The exponential of a vector without anything above zero, in place, to seven digits.

    The library's own takes one number at a time. A power of two is made of its bits, and multiplied by a polynomial.
    """
    bits = np.empty(len(x), np.int32)
    powers = bits.view(np.float32)
    for k in range(len(x)):
        power = max(x[k], _LEAST) * _BITS_PER_E
        whole = np.int32(power - _HALF)
        part = power - np.float32(whole)  # half at most, to either side
        found = ((_E6 * part + _E5) * part + _E4) * part + _E3
        x[k] = ((found * part + _E2) * part + _E1) * part + _ONE
        bits[k] = (whole + np.int32(127)) << np.int32(23)
    for k in range(len(x)):
        x[k] *= powers[k]


@_compiled
def softmax(scores: Float) -> None:
    """Of a vector, in place."""
    most, total = scores[0], _ZERO
    for t in range(len(scores)):
        most = max(most, scores[t])
    for t in range(len(scores)):
        scores[t] -= most
    decay(scores)
    for t in range(len(scores)):
        total += scores[t]
    for t in range(len(scores)):
        scores[t] /= total


@_compiled
def attend(query: Float, keys: Float, values: Float, start: int, scores: Float, seen: Float) -> None:
    """One query [D] over keys [D, P] and values [P, D] from position `start` on -> seen [D].

    `scores` [T] are what is added to each of so many positions, and overwritten.
    """
    for d in range(len(query)):
        part, of_keys = query[d], keys[d]
        for t in range(len(scores)):
            scores[t] += part * of_keys[start + t]
    softmax(scores)
    for d in range(len(query)):
        seen[d] = _ZERO
    for t in range(len(scores)):
        share, of_values = scores[t], values[start + t]
        for d in range(len(query)):
            seen[d] += share * of_values[d]


@_compiled
def silu(x: Float) -> None:
    """Of a vector, in place."""
    small = np.empty(len(x), np.float32)
    for k in range(len(x)):
        small[k] = -abs(x[k])
    decay(small)
    for k in range(len(x)):
        x[k] *= (_ONE if x[k] >= _ZERO else small[k]) / (_ONE + small[k])


@_compiled
def gelu(x: Float) -> None:
    """Of a vector, in place; the error function by Abramowitz and Stegun, 7.1.26, to seven digits."""
    small = np.empty(len(x), np.float32)
    for k in range(len(x)):
        small[k] = -_HALF * x[k] * x[k]
    decay(small)
    for k in range(len(x)):
        near = _ONE / (_ONE + _ERF_P * abs(x[k]))
        found = ((((_A5 * near + _A4) * near + _A3) * near + _A2) * near) + _A1
        beyond = _HALF * found * near * small[k]  # of a normal variable, the probability of more than |x|
        x[k] *= _ONE - beyond if x[k] >= _ZERO else beyond


# --- the Transformer -----------------------------------------------------------------------------------------------


class Matrices(NamedTuple):
    """Matrices [..., out, in] as whole numbers of 8 bits, whose rows have a scale each [..., out]."""

    whole: NDArray[np.int8]
    scale: Float


class Layers(NamedTuple):
    """Weights of all layers, the norms before a product folded into it."""

    to_qkv: Matrices
    norms: Float
    """Of queries (with the scale of attention) and keys: [L, H + KV, D]."""
    to_out: Matrices
    to_gate_up: Matrices
    to_down: Matrices
    final: Float
    """The norm after the last one: [C]."""
    cos: Float
    """[P, D], as `sin`."""
    sin: Float
    eps: np.float32


@_compiled
def _matrix(matrices: Matrices, i: int, x: Float, out: Float) -> None:
    """The product of the i-th matrix and x [N, in] -> out [N, out]."""
    scale = matrices.scale[i]
    product(matrices.whole[i], x, out)
    for n in range(len(out)):
        for o in range(len(scale)):
            out[n, o] *= scale[o]


@_compiled
def _add(x: Float, added: Float) -> None:
    """x [N, C] += added [N, C]."""
    for n in range(len(x)):
        for k in range(x.shape[1]):
            x[n, k] += added[n, k]


@_compiled
def _turn(head: Float, norm: Float, cos: Float, sin: Float, eps: np.float32, turned: Float) -> None:
    """One query or key [D]: normalised, and rotated to its position. `turned` is room to work in."""
    size = len(head)
    half = size // 2
    unit(head, eps, turned)
    for d in range(size):
        turned[d] *= norm[d]
    for d in range(half):
        head[d] = turned[d] * cos[d] - turned[d + half] * sin[d]
        head[d + half] = turned[d + half] * cos[d + half] + turned[d] * sin[d + half]


@_compiled
def extend(
    x: Float, slots: NDArray[np.int64], positions: NDArray[np.int64], keys: Float, values: Float, layers: Layers
) -> Float:
    """`few_tokens.extend`; x [N, C] is overwritten, keys are [L, S, KV, D, P], values [L, S, KV, P, D]."""
    rows, width = x.shape
    count, heads, size = layers.norms.shape
    kv_heads, inner = keys.shape[2], layers.to_down.whole.shape[2]
    heads -= kv_heads
    normed, added = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    qkv = np.empty((rows, (heads + 2 * kv_heads) * size), np.float32)
    seen = np.empty((rows, heads * size), np.float32)
    gate_up, gated = np.empty((rows, 2 * inner), np.float32), np.empty((rows, inner), np.float32)
    length = 0
    for n in range(rows):
        length = max(length, positions[n] + 1)
    scores, room = np.empty(length, np.float32), np.empty(size, np.float32)
    for i in range(count):
        for n in range(rows):
            unit(x[n], layers.eps, normed[n])
        _matrix(layers.to_qkv, i, normed, qkv)
        for n in range(rows):
            slot, at = slots[n], positions[n]
            for h in range(heads + kv_heads):
                head = qkv[n, h * size : (h + 1) * size]
                _turn(head, layers.norms[i, h], layers.cos[at], layers.sin[at], layers.eps, room)
            for h in range(kv_heads):
                for d in range(size):
                    keys[i, slot, h, d, at] = qkv[n, (heads + h) * size + d]
                    values[i, slot, h, at, d] = qkv[n, (heads + kv_heads + h) * size + d]
        for n in range(rows):
            slot, until = slots[n], positions[n] + 1
            for h in range(heads):
                query, shared = slice(h * size, (h + 1) * size), h // (heads // kv_heads)
                key, value = keys[i, slot, shared], values[i, slot, shared]
                for t in range(until):
                    scores[t] = _ZERO
                attend(qkv[n, query], key, value, 0, scores[:until], seen[n, query])
        _matrix(layers.to_out, i, seen, added)
        _add(x, added)
        for n in range(rows):
            unit(x[n], layers.eps, normed[n])
        _matrix(layers.to_gate_up, i, normed, gate_up)
        for n in range(rows):
            silu(gate_up[n, :inner])
            for k in range(inner):
                gated[n, k] = gate_up[n, k] * gate_up[n, inner + k]
        _matrix(layers.to_down, i, gated, added)
        _add(x, added)
    for n in range(rows):
        unit(x[n], layers.eps, normed[n])
        for k in range(width):
            normed[n, k] *= layers.final[k]
    return normed


# --- streaming modules ---------------------------------------------------------------------------------------------


@_compiled
def _affine(linear: Linear, x: Float) -> Float:
    """x [N, in] -> [N, out]."""
    weight, bias = linear
    out = np.empty((len(x), len(weight)), np.float32)
    product(weight, x, out)
    for n in range(len(x)):
        for o in range(len(bias)):
            out[n, o] += bias[o]
    return out


@_compiled
def _added(x: Float, y: Float, scale: Float) -> Float:
    """x [B, C, T] and y [B T, C] times `scale` [C]."""
    batch, channels, steps = x.shape
    out = np.empty((batch, channels, steps), np.float32)
    for b in range(batch):
        for c in range(channels):
            for t in range(steps):
                out[b, c, t] = x[b, c, t] + scale[c] * y[b * steps + t, c]
    return out


@_compiled
def convnext(
    x: Float, joined: Float, kernel: Linear, norm: Norm, expand: Linear, project: Linear, scale: Float
) -> Float:
    """A `ConvNeXtBlock`. `joined` [B, C, context + T] ends with x [B, C, T]."""
    (taps, bias), (weight, shift, eps) = kernel, norm
    batch, channels, steps = x.shape
    rows = np.empty((batch * steps, channels), np.float32)
    for b in range(batch):
        for t in range(steps):
            row = rows[b * steps + t]
            for c in range(channels):
                found = bias[c]
                for k in range(taps.shape[1]):
                    found += taps[c, k] * joined[b, c, t + k]
                row[c] = found
            layer_norm(row, weight, shift, eps, row)
    wide = _affine(expand, rows)
    for n in range(len(wide)):
        gelu(wide[n])
    return _added(x, _affine(project, wide), scale)


@_compiled
def local_attention(
    x: Float, joined: Float, norm: Norm, query: Linear, key_value: Linear, bias: Float, project: Linear, scale: Float
) -> Float:
    """A `LocalAttention`. `joined` [B, 2 C, past + T] begins with the past; the keys and values of x [B, C, T] are
    written behind it."""
    weight, shift, eps = norm
    batch, channels, steps = x.shape
    heads, window = bias.shape
    size, past = channels // heads, window - 1
    rows, column = np.empty((batch * steps, channels), np.float32), np.empty(channels, np.float32)
    for b in range(batch):
        for t in range(steps):
            for c in range(channels):
                column[c] = x[b, c, t]
            layer_norm(column, weight, shift, eps, rows[b * steps + t])
    queries, new = _affine(query, rows), _affine(key_value, rows)
    factor = np.float32(size) ** np.float32(-0.5)
    seen, scores = np.empty((batch * steps, channels), np.float32), np.empty(window, np.float32)
    values = np.empty((past + steps, size), np.float32)
    for b in range(batch):
        for t in range(steps):
            for c in range(2 * channels):
                joined[b, c, past + t] = new[b * steps + t, c]
            for c in range(channels):
                queries[b * steps + t, c] *= factor
        for h in range(heads):
            first = h * size
            for t in range(past + steps):
                for d in range(size):
                    values[t, d] = joined[b, channels + first + d, t]
            for t in range(steps):
                n = b * steps + t
                for k in range(window):
                    scores[k] = bias[h, k]
                query_of_head, seen_of_head = queries[n, first : first + size], seen[n, first : first + size]
                attend(query_of_head, joined[b, first : first + size], values, t, scores, seen_of_head)
    return _added(x, _affine(project, seen), scale)
