"""From the pieces in which text comes to its lines."""

import codecs


class Lines:
    """Of one place; each keeps the line that was begun."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def of(self, data: bytes, *, final: bool = False) -> list[str]:
        """The lines that are whole with *data*; the *final* one may lack its end."""
        *whole, self._rest = (self._rest + self._decoder.decode(data, final)).split("\n")
        if final and self._rest:
            whole, self._rest = [*whole, self._rest], ""
        return whole
