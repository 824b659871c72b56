"""Bytes with a few of them changed. Needs nothing but Python: the hooks of schemathesis use it too."""

import random

EDGES = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01", b"\x80")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, cut out, repeated, or the end cut off."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        place, length = draw.randrange(len(found)), draw.choice((1, 1, 4, 8, 64))
        match draw.randrange(6):
            case 0:
                found[place] ^= 1 << draw.randrange(8)
            case 1:
                edge = draw.choice(EDGES)
                found[place : place + len(edge)] = edge
            case 2:
                found[place : place + length] = draw.randbytes(length)
            case 3 if len(found) > length + 1:
                del found[place : place + length]
            case 4:
                found[place:place] = found[place : place + length]
            case _ if draw.random() < 0.2 and place:
                del found[place:]
    return bytes(found) or b"\0"
