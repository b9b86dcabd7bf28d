"""Expressions evaluated and compared by math-verify, in processes that can be killed.

Only what is not a written number (a root, a sum in a box) goes to a computer algebra system, because that is slow,
fails in threads and can take minutes for a tower of powers. Worker processes are started at first use, asked one
expression at a time, interrupted after `CPU_SECONDS` and killed after `SECONDS`. Two constants are equal where their
values agree to 25 digits; what holds letters is compared by math-verify, after a trial of numbers for the letters. This
file knows no language and no cue.
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

CPU_SECONDS = 3.0  # for one expression, of the worker's own time, so that a busy machine reads the same
SECONDS = 30.0  # for one expression by the clock; the worker is killed then
START_SECONDS = 300.0  # for the worker to import its libraries: seconds, on a very busy machine minutes
MAX_CHARACTERS = 200
_TOO_LONG = f"expression took longer than {CPU_SECONDS:g} s"
_LARGE_POWER = re.compile(
    r"(?:\^|\*\*)\s*+(?:\{\s*+)?(?:\(\s*+)?-?(?:\d{3,}|\d+\s*+(?:\}\s*+)?(?:\^|\*\*)|\{|\\|[a-z])"
    r"|\d\s*!|\^[^^]*\^[^^]*\^"
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
_MORE = tuple(Worker() for _ in range(max(0, min(8, os.cpu_count() or 1) - 1)))  # started where much is asked at once
for _worker in _MORE:
    atexit.register(_worker.stop)
_WORTH_A_START = 200  # requests for each further worker: starting one takes as long as answering some


def ask_all(requests: Sequence[dict[str, object]], seconds: float = SECONDS) -> list[dict[str, object] | None]:
    """The answers to many requests, in order, from as many workers as there are processors.

    Args:
        requests: see `VALUE` and `PAIR`.
        seconds: by the clock for each; its worker is killed then, and the answer is None.
    """
    workers = (_WORKER, *_MORE)[: 1 + len(requests) // _WORTH_A_START]
    answers: list[dict[str, object] | None] = [None] * len(requests)
    places = iter(range(len(requests)))

    def serve(worker: Worker) -> None:
        for place in places:  # each place goes to one worker: next() of a range iterator is one step
            answers[place] = worker.ask(requests[place], seconds)

    with ThreadPoolExecutor(len(workers)) as threads:
        for done in [threads.submit(serve, worker) for worker in workers]:
            done.result()
    return answers


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


def expression_by_math_verify(completion: str, reference: str, seconds: float = SECONDS) -> str | None:
    """What math-verify alone reads in a whole completion: the reference where it finds them equal, else its own text.

    None: it read nothing, or it took longer than `seconds`.
    """
    answer = _WORKER.ask({"completion": completion, "reference": reference}, seconds) or {}
    return reference if answer.get("equal") else str(answer.get("read") or "") or None


# -- the worker's side -------------------------------------------------------------------------------------------------

VALUE = "value"  # LaTeX -> {"at": [re, im], "letters": [...]} to 30 digits, {"relation": true}, or {"note": why not}
PAIR = "pair"  # two LaTeX texts -> {"equal": bool}


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
        answer: dict[str, object]
        try:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
            answer = _answer(request)
        except TimeoutError:
            answer = {"note": _TOO_LONG}
        except (Exception, TimeoutException) as error:  # whatever a foreign parser raises on junk is "not a number"
            answer = {"note": f"not a number ({type(error).__name__})"}
        finally:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        print(json.dumps(answer), flush=True)


def _answer(request: dict[str, Any]) -> dict[str, object]:
    from math_verify import parse, verify

    if PAIR in request:
        first, second = (_parsed(text) for text in request[PAIR])
        if first is None or second is None:
            return {"equal": False}
        return {"equal": bool(verify([first], [second], timeout_seconds=None))}
    if VALUE in request:
        return _at(request[VALUE])
    text = f"${request['expression']}$" if "expression" in request else request["completion"]
    parsed = parse(text, parsing_timeout=None)
    if "reference" in request:
        right = parse(f"${request['reference']}$", parsing_timeout=None)
        return {"equal": bool(verify(right, parsed, timeout_seconds=None)), "read": str(parsed[0]) if parsed else ""}
    first = next((item for item in parsed if not isinstance(item, str)), None)
    written = _rational(first) if first is not None else None
    if written is not None:
        return {"value": written}
    return {"note": "not rational" if first is not None else "not a number"}


@lru_cache(maxsize=2_000)
def _parsed(latex: str) -> Any:
    """A LaTeX expression in sympy, with i as the imaginary unit; None where math-verify does not understand it."""
    import sympy
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${latex}$", (LatexExtractionConfig(),), fallback_mode="no_fallback", parsing_timeout=None)
    first = next((item for item in found if not isinstance(item, str)), None)
    if not isinstance(first, sympy.Basic):
        return None
    return first.subs({letter: sympy.I for letter in first.free_symbols if letter.name == "i"})


def _at(latex: str) -> dict[str, object]:
    """The value of an expression, where each of its letters stands for a number made from its name."""
    import sympy

    parsed = _parsed(latex)
    if parsed is None:
        return {"note": "not an expression"}
    if isinstance(parsed, sympy.core.relational.Relational):
        return {"relation": True}
    if not isinstance(parsed, sympy.Expr):
        return {"note": f"not an expression but {type(parsed).__name__}"}
    letters = sorted(parsed.free_symbols, key=lambda letter: letter.name)
    if letters and not {letter.name[:1] for letter in letters} <= set(latex.lower()):
        return {"note": "not an expression"}
    written = set(re.sub(r"\\[a-zA-Z]+", "", latex))
    if written & {letter.name[:1].upper() for letter in letters if letter.name[:1] in written}:
        return {"note": "R and r are one letter to math-verify"}
    numbers = {
        letter: sympy.Rational(sum(map(ord, letter.name)) + 7 * place, 53) for place, letter in enumerate(letters)
    }
    value = parsed.subs(numbers)
    if value in (sympy.oo, -sympy.oo):
        return {"at": [str(value), "0"], "letters": []}
    re_, im = (sympy.N(part, 40) for part in value.as_real_imag())
    if not (re_.is_Float or re_.is_Integer or re_.is_zero) or not (im.is_Float or im.is_Integer or im.is_zero):
        return {"note": "no value"}
    return {"at": [str(re_), str(im)], "letters": [letter.name for letter in letters]}


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
