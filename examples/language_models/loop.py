"""Ask a cascade of two services: the second is called only where the first is unsure."""

import asyncio
import json
import sys
from pathlib import Path

import committee as cm

ROWS = map(json.loads, Path("log.jsonl").read_text(encoding="utf-8").splitlines())
LOG = {(row["model"], row["sample"]): row for row in ROWS}


async def call(model, question):
    """Stand in for a client of an API: wait a little, then return answer, confidence, dollars."""
    await asyncio.sleep(0.001)
    row = LOG[model, question["id"]]
    return f"{model} says …", row["confidence"], row["dollars"]


async def swift(question):
    return await call("swift", question)


async def deep(question):
    return await call("deep", question)


async def main():
    run = cm.Runner("cascade.json", models={"swift": swift, "deep": deep})
    at_once = asyncio.Semaphore(32)

    async def ask(question):
        async with at_once:
            return await run.async_call(question)

    questions = [{"id": f"q{i:05d}", "text": "…"} for i in range(int(sys.argv[1]))]
    answers = await asyncio.gather(*map(ask, questions))
    first = sum(each.stage == 0 for each in answers)
    print(f"{first / len(answers):.1%} of {len(answers):,} questions were answered by swift")
    print(f"{sum(each.cost for each in answers) / len(answers):.6f} dollars a question")


asyncio.run(main())
