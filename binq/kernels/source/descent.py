"""Tabu search kernel (source; imported only to be compiled). What it does: see `descent`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

_FLOATS = types.CPointer(types.float32)
_INTS = types.CPointer(types.int32)

# The position of a bit shares a 32-bit key with its gain: so many bits are kept for it.
_POSITION = 12
MAX_BITS = 1 << _POSITION

# Steps, per bit, in which a local minimum is reached or given up; half of one is much.
DESCENT = 4


@intrinsic
def _bit_pattern(context: Any, value: Any) -> Any:
    """The bits of a float32 as an int32; the ``view`` of a scalar could raise, this cannot."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), emit


def _search(residual, codes, gram, n, bits, steps, tenure, scratch, recent):
    """Improve each row of `codes` in place.

    Parameters
    ----------
    residual : float32*, (n, bits)
        a - b G for the codes given.
    codes : float32*, (n, bits)
        Codes in -1.0 and +1.0; holds the best code met on return.
    gram : float32*, (bits, bits)
        Symmetric Gram matrix of the decoder.
    n, bits : int64
        Number of rows and of bits; ``bits <= MAX_BITS``.
    steps : int64
        Steps after the first local minimum.
    tenure : int64
        Steps during which a flipped bit stays as it is; ``0 < tenure < bits``.
    scratch : float32*, (4 * bits,)
        Working memory.
    recent : int32*, (tenure,)
        Working memory.

    Where numbers overflow no flip is ever seen to be in vain: whatever they are, the search ends
    after ``DESCENT * bits + steps`` steps, with the code that it has come to if none was a minimum.
    """
    ban = bits
    best = 2 * bits
    diagonal = 3 * bits
    for j in range(bits):
        scratch[diagonal + j] = gram[j * bits + j]
    for row in range(n):
        at = row * bits
        for j in range(bits):
            scratch[j] = codes[at + j] * residual[at + j] + scratch[diagonal + j]
            scratch[ban + j] = np.float32(0.0)
        for k in range(tenure):
            recent[k] = np.int32(-1)
        slot = 0
        left = steps
        change = np.float32(0.0)
        best_change = np.float32(0.0)
        found = False
        i = 0
        gradient = np.float32(0.0)
        for _ in range(DESCENT * bits + steps + 1):
            key = np.int32(0x7FFFFFFF)
            line = i * bits
            for j in range(bits):
                u = scratch[j] + gradient * codes[at + j] * gram[line + j]
                scratch[j] = u
                # A float's bits order like an integer once those of negatives are inverted.
                word = _bit_pattern(  # type: ignore[call-arg, var-annotated]
                    np.float32(u + scratch[ban + j])
                )
                sign = np.int32(word >> np.int32(31))
                word = np.int32(word ^ np.int32(sign & np.int32(0x7FFFFFFF)))
                word = np.int32(np.int32(word & np.int32(-MAX_BITS)) | np.int32(j))
                # min() would widen to 64 bits and halve the lanes, as would a bare operator.
                key = word if word < key else key
            i = np.int64(key & np.int32(MAX_BITS - 1))  # type: ignore[assignment]
            gain = scratch[i]
            if gain >= np.float32(0.0):
                if not found or change < best_change:
                    best_change = change
                    for j in range(bits):
                        scratch[best + j] = codes[at + j]
                found = True
            if found:
                left -= 1
                if left < 0:
                    break
                oldest = recent[slot]
                if oldest >= 0:
                    scratch[ban + oldest] = np.float32(0.0)
                scratch[ban + i] = np.float32(1e30)
                recent[slot] = np.int32(i)
                slot += 1
                if slot == tenure:
                    slot = 0
            bit = codes[at + i]
            codes[at + i] = -bit
            change += gain
            # Undo in advance what the pass adds to the flipped bit itself, which becomes -u_i.
            gradient = np.float32(2.0) * bit
            scratch[i] = -gain + gradient * bit * gram[i * bits + i]
        if found:
            for j in range(bits):
                codes[at + j] = scratch[best + j]


def kernels(_features: Any) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the compiled functions of this family; the same for every CPU."""
    size = types.int64
    signature = types.void(_FLOATS, _FLOATS, _FLOATS, size, size, size, size, _FLOATS, _INTS)
    compiled = partial(
        cfunc, error_model="numpy", fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}
    )
    return {"search": compiled(signature)(_search)}, {"bits.max": MAX_BITS}
