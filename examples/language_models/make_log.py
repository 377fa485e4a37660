"""Write an invented log of two language models: a graded answer, a confidence and its price.

    python make_log.py [QUESTIONS [SEED]]

Questions differ in how hard and how long they are. `swift` is cheap, `deep` costs about sixteen
times as much a token and thinks longer on what is hard. The confidence is the mean log-probability
of the answer's tokens, and both models are surer than they should be. A few calls timed out: they
have no value, but the question was paid for.
"""

import json
import sys
from pathlib import Path

import numpy as np

# Dollars a million tokens, of the question and of the answer.
PRICES = {"swift": (0.25, 1.25), "deep": (3.0, 20.0)}
SKILLS = {"swift": 2.6, "deep": 3.1}
TIMEOUTS = {"swift": 0.002, "deep": 0.004}


def log(questions: int, seed: int) -> list[dict[str, object]]:
    """Return one row for each question and model, in the order in which the calls came back."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(2.0, 0.8, questions)
    asked = rng.lognormal(5.5, 0.5, questions).round()
    rows = []
    for model, (price_in, price_out) in PRICES.items():
        chance = 1 / (1 + np.exp(4 * (hard - SKILLS[model])))
        value = rng.random(questions) < chance
        felt = SKILLS[model] - hard + rng.normal(0, 0.25, questions)
        sure = -0.7 / (1 + np.exp(1.5 * felt))
        length = 80 * np.exp(rng.normal(0, 0.3, questions))
        if model == "deep":
            length *= 1 + hard / 2
        timed_out = rng.random(questions) < TIMEOUTS[model]
        for i in range(questions):
            answered = 0.0 if timed_out[i] else length[i].round()
            dollars = (price_in * asked[i] + price_out * answered) / 1e6
            rows.append(
                {
                    "sample": f"q{i:05d}",
                    "model": model,
                    "value": None if timed_out[i] else int(value[i]),
                    "confidence": None if timed_out[i] else round(float(sure[i]), 4),
                    "dollars": round(float(dollars), 7),
                }
            )
    return [rows[i] for i in rng.permutation(len(rows))]


if __name__ == "__main__":
    questions, seed = [*map(int, sys.argv[1:]), *(2000, 0)[len(sys.argv) - 1 :]]
    text = "\n".join(map(json.dumps, log(questions, seed)))
    Path("log.jsonl").write_text(text + "\n", encoding="utf-8")
    print(f"log.jsonl: 2 models x {questions:,} questions")
