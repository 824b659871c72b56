"""Python values between the server and a decoder process, over a socket; large buffers are not copied."""

import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

LENGTHS = struct.Struct("<QQ")
SIZE = struct.Struct("<Q")
MAX_FILES = 2
SOCKET_BYTES = 1 << 20


class Channel:
    """One end. Values go by pickle, since both ends are this program; their buffers follow as they are."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)

    def send(self, value: object, files: Sequence[int] = ()) -> None:
        """Send `value` and open files, by descriptor. Raises TimeoutError, OSError where the other end is gone."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        socket.send_fds(self.socket, [LENGTHS.pack(len(head), len(views))], files)
        sizes = b"".join(SIZE.pack(view.nbytes) for view in views)
        self.socket.sendall(sizes + head)
        for view in views:
            self.socket.sendall(view)

    def receive(self, allow: Callable[[int], None] = lambda _: None) -> tuple[Any, list[int]]:
        """A value and the descriptors that came with it; `allow` is given its size in bytes before it is taken.

        Raises EOFError where the other end is gone, TimeoutError, and what `allow` raises.
        """
        first, files, _, _ = socket.recv_fds(self.socket, LENGTHS.size, MAX_FILES)
        if not first:
            raise EOFError
        head_bytes, count = LENGTHS.unpack(first + self._read(LENGTHS.size - len(first)))
        sizes = [size for (size,) in SIZE.iter_unpack(self._read(SIZE.size * count))]
        allow(head_bytes + sum(sizes))
        head = self._read(head_bytes)
        return pickle.loads(head, buffers=[self._read(size) for size in sizes]), files

    def close(self) -> None:
        self.socket.close()

    def _read(self, size: int) -> bytes | bytearray:
        """Exactly `size` bytes: `bytes` where the socket blocks, since readers of uploads want those."""
        if self.socket.gettimeout() is None:
            whole = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
            if len(whole) < size:  # a signal came between, or the other end is gone
                raise EOFError
            return whole
        found = bytearray(size)
        view = memoryview(found)
        while len(view):
            n = self.socket.recv_into(view)
            if not n:
                raise EOFError
            view = view[n:]
        return found
