"""HTTP/1.1 chunked transfer coding, read as it comes."""

from __future__ import annotations

_MAX_SIZE_LINE = 16


class Dechunker:
    """Reads RFC 9112, section 7.1, strictly: chunk extensions and trailers are refused.

    ``feed()`` returns the payload of all chunks in its input, so that chunks which arrived together
    leave together. Raises ValueError for malformed input and for an early end of the stream.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """The payload in the bytes of one read, b"" if it holds none."""
        if not data:
            raise ValueError("the stream ended before its last chunk")
        data = self._pending + data
        self._pending = b""
        out: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                out.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            if self._left:
                # The two bytes CR LF that close a chunk.
                tail = data[position : position + self._left]
                if tail != b"\r\n"[2 - self._left : 2 - self._left + len(tail)]:
                    raise ValueError("a chunk is longer than announced")
                position += len(tail)
                self._left -= len(tail)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > _MAX_SIZE_LINE:
                    raise ValueError("a chunk's size line is too long")
                self._pending = data[position:]
                break
            line = data[position:end]
            if not line or len(line) > 8 or line.strip(b"0123456789abcdefABCDEF"):
                raise ValueError("a chunk's size is not a number")
            length = int(line, 16)
            if length == 0:
                if size - end < 4:
                    self._pending = data[position:]
                    break
                if data[end:] != b"\r\n\r\n":
                    raise ValueError("bytes after the last chunk")
                self.done = True
                break
            self._left = length + 2
            position = end + 2
        return out[0] if len(out) == 1 else b"".join(out)
