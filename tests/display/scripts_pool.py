"""A small pool in right-to-left and complex scripts, written for this project: three problems, seven languages."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.trace import trace_languages
from bestofl_lib.runs import Run
from bestofl_lib.tables import SCHEMAS, check_table

CODES = ("ar", "he", "hi", "ko", "ta", "th", "zh")
QUESTIONS = {  # of apples: {a} and {b} more
    "ar": "لدى ليلى {a} تفاحات واشترت {b} تفاحات أخرى. كم تفاحة لديها الآن؟",
    "he": "לדנה יש {a} תפוחים והיא קנתה עוד {b} תפוחים. כמה תפוחים יש לה עכשיו?",
    "hi": "मीना के पास {a} सेब हैं और उसने {b} सेब और खरीदे। अब उसके पास कितने सेब हैं?",
    "ko": "지수는 사과 {a}개를 가지고 있고 {b}개를 더 샀습니다. 지금 사과는 몇 개입니까?",
    "ta": "மீனாவிடம் {a} ஆப்பிள்கள் உள்ளன, அவள் மேலும் {b} ஆப்பிள்கள் வாங்கினாள். இப்போது எத்தனை ஆப்பிள்கள் உள்ளன?",
    "th": "มาลีมีแอปเปิล {a} ผล และซื้อเพิ่มอีก {b} ผล ตอนนี้เธอมีแอปเปิลกี่ผล",
    "zh": "小明有{a}个苹果，又买了{b}个。他现在有几个苹果？",
}
SOLUTIONS = {
    "ar": "كان لديها {a} تفاحات، ثم {a} + {b} = {c}.\nالإجابة هي {c}.",
    "he": "היו לה {a} תפוחים, ואז {a} + {b} = {c}.\nהתשובה היא {c}.",
    "hi": "पहले {a} सेब थे, फिर {a} + {b} = {c}।\nउत्तर {c} है।",
    "ko": "처음에 {a}개였고 {a} + {b} = {c}입니다.\n답은 {c}입니다.",
    "ta": "முதலில் {a} இருந்தன, பிறகு {a} + {b} = {c}.\nவிடை {c}.",
    "th": "ตอนแรกมี {a} ผล แล้ว {a} + {b} = {c}\nคำตอบคือ {c}",
    "zh": "原来有{a}个，{a} + {b} = {c}。\n答案是{c}。",
}


def write_pool(root: Path, name: str = "scripts", n: int = 3) -> Run:
    """The pool as a run with readings; in every language but one the last candidate is wrong."""
    run = Run(name, root)
    problems, rows = [], []
    for number, (a, b) in enumerate([(3, 4), (12, 9), (25, 17)]):
        for place, code in enumerate(CODES):
            problems.append(
                (f"apples-{number}", code, "test", QUESTIONS[code].format(a=a, b=b), str(a + b), False, None, "number")
            )
            for index in range(n):
                c = a + b + (index == n - 1 and place != number)
                text = SOLUTIONS[code].format(a=a, b=b, c=c)
                rows.append({
                    "problem_id": f"apples-{number}", "language": code, "sample_index": index, "draw": "d", "model": "made-up",
                    "completion": text, "n_tokens": len(text) // 2, "finish_reason": "stop", "logprob": -float(len(text)),
                    "seed": index, "seconds": 0.1, "condition": None,
                })  # fmt: skip
    table = run.write("problems", pl.DataFrame(problems, schema=SCHEMAS["problems"], orient="row"))
    candidates = check_table("candidates", pl.DataFrame(rows, infer_schema_length=None))
    store = run.store()
    with store.writing():
        store.ask(pl.DataFrame(candidates.group_by("problem_id", "language", "draw").agg(n=pl.len())))
        store.add_table(candidates)
    traces = trace_languages(candidates["completion"])
    run.write("readings", read_answers(candidates, table).hstack(traces.select("trace_language")))
    return run
