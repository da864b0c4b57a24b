"""Small functions over numpy arrays that numba compiles for the processor it finds: what a network does to a few rows.

Torch takes 5 to 20 microseconds to start an operation; over few rows that is more than most operations take. These are
compiled when they are first called; the result is kept beside this file or in the user's cache. All of them are in this
file, for what numba keeps is made anew only where the file of a function itself has changed.
"""

from collections.abc import Callable
from math import erf
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model.few_tokens import Layers, Matrices

Float = NDArray[np.float32]
Linear = tuple[Float, Float]
Norm = tuple[Float, Float, np.float32]
"""Weights [out, in] and bias [out]; of a norm also what is added to the variance."""
_ZERO, _ONE = np.float32(0), np.float32(1)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    """Compile it. Sums may be reordered, so that they are taken in the processor's vectors."""
    try:
        made = njit(cache=True, fastmath=True, nogil=True)(function)
    except RuntimeError:  # nowhere to keep it: compiled anew by every process
        made = njit(fastmath=True, nogil=True)(function)
    return cast("_Function", made)


@_compiled
def product(weights: NDArray[Any], x: Float, out: Float) -> None:
    """Weights [out, in] of any kind of number, x [N, in] -> out [N, out]. Weights are read once for four inputs."""
    rows, width = x.shape
    for o in range(len(weights)):
        row, n = weights[o], 0
        while n + 4 <= rows:
            x0, x1, x2, x3 = x[n], x[n + 1], x[n + 2], x[n + 3]
            y0 = y1 = y2 = y3 = _ZERO
            for k in range(width):
                weight = np.float32(row[k])
                y0 += weight * x0[k]
                y1 += weight * x1[k]
                y2 += weight * x2[k]
                y3 += weight * x3[k]
            out[n, o], out[n + 1, o], out[n + 2, o], out[n + 3, o] = y0, y1, y2, y3
            n += 4
        if n + 2 <= rows:
            x0, x1 = x[n], x[n + 1]
            y0 = y1 = _ZERO
            for k in range(width):
                weight = np.float32(row[k])
                y0 += weight * x0[k]
                y1 += weight * x1[k]
            out[n, o], out[n + 1, o] = y0, y1
            n += 2
        if n < rows:
            x0, y0 = x[n], _ZERO
            for k in range(width):
                y0 += np.float32(row[k]) * x0[k]
            out[n, o] = y0


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
def softmax(scores: Float) -> None:
    """Of a vector, in place."""
    most, total = scores[0], _ZERO
    for t in range(len(scores)):
        most = max(most, scores[t])
    for t in range(len(scores)):
        scores[t] = np.exp(scores[t] - most)
        total += scores[t]
    for t in range(len(scores)):
        scores[t] /= total


@_compiled
def attend(query: Float, keys: Float, values: Float, scores: Float, seen: Float) -> None:
    """One query [D] over keys [D, T] and values [T, D]; `scores` [T] are what is added to each, and overwritten."""
    for d in range(len(query)):
        part, of_keys = query[d], keys[d]
        for t in range(len(scores)):
            scores[t] += part * of_keys[t]
    softmax(scores)
    seen[:] = _ZERO
    for t in range(len(scores)):
        share, of_values = scores[t], values[t]
        for d in range(len(query)):
            seen[d] += share * of_values[d]


@_compiled
def gelu(x: Float) -> None:
    """Of a vector, in place."""
    for k in range(len(x)):
        x[k] *= np.float32(0.5) * (_ONE + np.float32(erf(x[k] * np.float32(0.7071067811865476))))


# --- the Transformer -----------------------------------------------------------------------------------------------


@_compiled
def _matrix(matrices: "Matrices", i: int, x: Float, out: Float) -> None:
    """The product of the i-th matrix and x [N, in] -> out [N, out]."""
    product(matrices.whole[i], x, out)
    out *= matrices.scale[i]


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
    x: Float, slots: NDArray[np.int64], positions: NDArray[np.int64], keys: Float, values: Float, layers: "Layers"
) -> Float:
    rows, width = x.shape
    count, heads, size = layers.norms.shape
    kv_heads, inner = keys.shape[2], layers.to_down.whole.shape[2]
    heads -= kv_heads
    normed, added = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    qkv = np.empty((rows, (heads + 2 * kv_heads) * size), np.float32)
    seen = np.empty((rows, heads * size), np.float32)
    gate_up, gated = np.empty((rows, 2 * inner), np.float32), np.empty((rows, inner), np.float32)
    scores, room = np.empty(positions.max() + 1, np.float32), np.empty(size, np.float32)
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
                scores[:until] = _ZERO
                attend(qkv[n, query], key[:, :until], value, scores[:until], seen[n, query])
        _matrix(layers.to_out, i, seen, added)
        x += added
        for n in range(rows):
            unit(x[n], layers.eps, normed[n])
        _matrix(layers.to_gate_up, i, normed, gate_up)
        for n in range(rows):
            for k in range(inner):
                gate = gate_up[n, k]
                gated[n, k] = gate / (_ONE + np.exp(-gate)) * gate_up[n, inner + k]
        _matrix(layers.to_down, i, gated, added)
        x += added
    for n in range(rows):
        unit(x[n], layers.eps, normed[n])
    return normed * layers.final


# --- streaming modules ---------------------------------------------------------------------------------------------


@_compiled
def _affine(linear: Linear, x: Float) -> Float:
    """x [N, in] -> [N, out]."""
    weight, bias = linear
    out = np.empty((len(x), len(weight)), np.float32)
    product(weight, x, out)
    out += bias
    return out


@_compiled
def _joined(state: Float, x: Float) -> Float:
    """[B, C, P], [B, C, T] -> [B, C, P + T]."""
    batch, channels, steps = x.shape
    past = state.shape[2]
    out = np.empty((batch, channels, past + steps), np.float32)
    out[:, :, :past] = state
    out[:, :, past:] = x
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
    x: Float, state: Float, kernel: Linear, norm: Norm, expand: Linear, project: Linear, scale: Float
) -> tuple[Float, Float]:
    (taps, bias), (weight, shift, eps) = kernel, norm
    batch, channels, steps = x.shape
    joined = _joined(state, x)
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
    for row in wide:
        gelu(row)
    return _added(x, _affine(project, wide), scale), joined[:, :, steps:].copy()


@_compiled
def local_attention(
    x: Float, state: Float, norm: Norm, query: Linear, key_value: Linear, bias: Float, project: Linear, scale: Float
) -> tuple[Float, Float]:
    weight, shift, eps = norm
    batch, channels, steps = x.shape
    heads, window = bias.shape
    size, past = channels // heads, window - 1
    rows = np.empty((batch * steps, channels), np.float32)
    for b in range(batch):
        for t in range(steps):
            layer_norm(x[b, :, t], weight, shift, eps, rows[b * steps + t])
    queries, new = _affine(query, rows), _affine(key_value, rows)
    queries *= np.float32(size) ** np.float32(-0.5)
    joined = np.empty((batch, 2 * channels, past + steps), np.float32)
    joined[:, :, :past] = state
    seen, scores = np.empty((batch * steps, channels), np.float32), np.empty(window, np.float32)
    values = np.empty((past + steps, size), np.float32)
    for b in range(batch):
        for t in range(steps):
            for c in range(2 * channels):
                joined[b, c, past + t] = new[b * steps + t, c]
        for h in range(heads):
            of_head = slice(h * size, (h + 1) * size)
            values[:] = joined[b, channels + h * size : channels + (h + 1) * size].T
            for t in range(steps):
                n = b * steps + t
                scores[:] = bias[h]
                keys = joined[b, of_head, t : t + window]
                attend(queries[n, of_head], keys, values[t : t + window], scores, seen[n, of_head])
    return _added(x, _affine(project, seen), scale), joined[:, :, steps:].copy()
