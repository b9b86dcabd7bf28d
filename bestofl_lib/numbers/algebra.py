"""Expressions evaluated by math-verify in a process that can be killed.

Only what is not a written number (a root, a sum in a box) goes to a computer algebra system, because that is slow,
fails in threads and can take minutes for a tower of powers. One worker process is started at first use, asked one
expression at a time, interrupted after `CPU_SECONDS` and killed after `SECONDS`. This file knows no language and no
cue.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO

CPU_SECONDS = 3.0  # for one expression, of the worker's own time, so that a busy machine reads the same
SECONDS = 30.0  # for one expression by the clock; the worker is killed then
START_SECONDS = 300.0  # for the worker to import its libraries: seconds, on a very busy machine minutes
MAX_CHARACTERS = 200
_TOO_LONG = f"expression took longer than {CPU_SECONDS:g} s"
_LARGE_POWER = re.compile(
    r"(?:\^|\*\*)\s*+(?:\{\s*+)?(?:\(\s*+)?-?(?:\d{3,}|\d+\s*+(?:\}\s*+)?(?:\^|\*\*)|\{|\\|[a-z])|\d\s*!|\^[^^]*\^[^^]*\^"
)


class Worker:
    """A child process that answers one line of JSON with another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def _start(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bestofl_lib.numbers.algebra"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        self._lines = queue.Queue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()
        if self._line(START_SECONDS) is None:
            self.stop()
            raise RuntimeError(
                "the process that evaluates expressions did not start; expected: math-verify is installed; "
                "try: python -m bestofl_lib.numbers.algebra"
            )

    def _line(self, seconds: float) -> str | None:
        try:
            return self._lines.get(timeout=seconds) or None
        except queue.Empty:
            return None

    def ask(self, request: dict[str, object], seconds: float = SECONDS) -> dict[str, object] | None:
        """The worker's answer; None if it died or was killed because it took longer than `seconds`."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            process = self._process
            if process is None or process.stdin is None:
                raise RuntimeError("the process that evaluates expressions has no input")
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except OSError:
                self.stop()
                return None
            line = self._line(seconds)
            if line is None:
                self.stop()
                return None
            answer: dict[str, object] = json.loads(line)
            return answer

    def stop(self) -> None:
        """End the child process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _pump(stream: IO[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            lines.put(line)
    lines.put("")


_WORKER = Worker()
atexit.register(_WORKER.stop)


@lru_cache(maxsize=20_000)
def evaluate(expression: str) -> tuple[Fraction | None, str]:
    """The exact value of an expression, or why it has none.

    Args:
        expression: LaTeX or plain, numbers already in English style.

    Returns:
        (value, note); the value is None for what is irrational, not an expression, too large or too slow.

    >>> evaluate("9^9^9^9")
    (None, 'power too large')
    """
    if len(expression) > MAX_CHARACTERS:
        return None, "expression too long"
    if _LARGE_POWER.search(expression):
        return None, "power too large"
    answer = _WORKER.ask({"expression": expression})
    if answer is None:
        return None, _TOO_LONG
    if isinstance(answer.get("value"), str):
        return Fraction(str(answer["value"])), "expression evaluated"
    return None, str(answer.get("note", "not a number"))


def math_verify_reading(completion: str, seconds: float = SECONDS) -> Fraction | None:
    """What math-verify alone reads in a whole completion: the public reader that ours is compared with.

    None: it read nothing, nothing rational, or it took longer than `seconds`.
    """
    answer = _WORKER.ask({"completion": completion}, seconds)
    value = answer.get("value") if answer else None
    return Fraction(value) if isinstance(value, str) else None


def _serve() -> None:
    """The child's side: read requests until the input ends."""
    sys.set_int_max_str_digits(5000)
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    import logging
    import signal

    from math_verify import parse
    from math_verify.errors import TimeoutException

    logging.disable(logging.CRITICAL)

    parse(r"$\frac{1}{\sqrt{4}}$", parsing_timeout=None)  # the first use builds tables and takes seconds
    if hasattr(signal, "setitimer"):

        def interrupt(*_: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGVTALRM, interrupt)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object] = {"note": "not a number"}
        try:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
            text = f"${request['expression']}$" if "expression" in request else request["completion"]
            parsed = parse(text, parsing_timeout=None)
            first = next((item for item in parsed if not isinstance(item, str)), None)
            written = _rational(first) if first is not None else None
            if written is not None:
                answer = {"value": written}
            elif first is not None:
                answer = {"note": "not rational"}
        except TimeoutError:
            answer = {"note": _TOO_LONG}
        except (Exception, TimeoutException) as error:  # whatever a foreign parser raises on junk is "not a number"
            answer = {"note": f"not a number ({type(error).__name__})"}
        finally:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        print(json.dumps(answer), flush=True)


def _rational(value: object) -> str | None:
    """The value of a parsed expression, as "p/q"; None where it is not rational."""
    import sympy

    if isinstance(value, sympy.Eq):
        value = value.rhs
    value = sympy.nsimplify(value, rational=True) if isinstance(value, sympy.Float) else value
    if isinstance(value, sympy.Expr) and not value.is_Rational and not value.is_irrational and not value.free_symbols:
        value = sympy.simplify(value)
    if isinstance(value, sympy.Float):
        value = sympy.Rational(str(value))
    return f"{value.p}/{value.q}" if isinstance(value, sympy.Rational) else None


if __name__ == "__main__":
    _serve()
