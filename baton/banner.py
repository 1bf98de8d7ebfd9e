"""What to do with a fleet that is up."""

from __future__ import annotations

import json

QUESTION = "What is the capital of France?"


def banner(url: str, model: str) -> str:
    """The address, a curl line and an OpenAI-SDK snippet, each ready to paste."""
    message = {"role": "user", "content": QUESTION}
    body = json.dumps({"model": model, "messages": [message], "temperature": 0})
    return f"""
Serving {model} at {url}/v1

curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\
  -d '{body}'

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="none")
messages = [{{"role": "user", "content": "{QUESTION}"}}]
answer = client.chat.completions.create(model="{model}", messages=messages, temperature=0)
print(answer.choices[0].message.content)
"""
