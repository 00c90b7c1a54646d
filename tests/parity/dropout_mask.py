"""Dropout masks as model/ilora.h and model/random.h define them, written a second time in numpy."""

import numpy

ALL = 0xFFFF_FFFF_FFFF_FFFF
GAMMA = 0x9E37_79B9_7F4A_7C15


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9 & ALL
    x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EB & ALL
    return x ^ (x >> 31)


def combine_key(key, value):
    return mix(mix(key) + mix(value + GAMMA & ALL) & ALL)


def name_key(name):
    key = 0xCBF2_9CE4_8422_2325
    for byte in name.encode():
        key = (key ^ byte) * 0x100_0000_01B3 & ALL
    return mix(key)


def pass_key(seed, step, lane):
    return combine_key(combine_key(combine_key(seed, name_key("dropout")), step), lane)


def mask(shape, rate, key):
    """What the elements of a tensor, in their order, are multiplied with: 0 or 1 / (1 - rate)."""
    count = int(numpy.prod(shape))
    index = numpy.arange(count, dtype=numpy.uint64)
    with numpy.errstate(over="ignore"):  # wraps, as it should
        x = numpy.uint64(key) + (index // numpy.uint64(4) + numpy.uint64(1)) * numpy.uint64(GAMMA)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58_476D_1CE4_E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D0_49BB_1331_11EB)
        x ^= x >> numpy.uint64(31)
    share = x >> (index % numpy.uint64(4) * numpy.uint64(16)) & numpy.uint64(0xFFFF)
    threshold = round(rate * 65536)
    kept = share >= numpy.uint64(threshold)
    return (kept * numpy.float32(65536 / (65536 - threshold))).astype(numpy.float32).reshape(shape)
