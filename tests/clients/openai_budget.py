# The openai package under a budget: each argument is a call (chat, stream, response, response-stream), the tokens that its
# answer is to cost, and perhaps a model, with colons between. It ends at the first error, which is printed. RETRIES: how
# often the package tries again.
import os
import sys

import openai

client = openai.OpenAI(timeout=20, max_retries=int(os.environ.get("RETRIES", "0")))


def call(kind, tokens, model="gpt-4o-mini"):
    metadata = {"tokens": tokens}
    messages = [{"role": "user", "content": "hello there"}]
    if kind == "chat":
        return client.chat.completions.create(model=model, messages=messages, metadata=metadata).choices[0].message.content
    if kind == "stream":
        options = {"include_usage": True}
        chunks = client.chat.completions.create(
            model=model, messages=messages, metadata=metadata, stream=True, stream_options=options
        )
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    if kind == "response":
        return client.responses.create(model=model, input="hello there", metadata=metadata).output_text
    with client.responses.create(model=model, input="hello there", metadata=metadata, stream=True) as events:
        return "".join(e.delta for e in events if e.type == "response.output_text.delta")


for step in sys.argv[1:]:
    try:
        print(step, call(*step.split(":")), flush=True)
    except openai.APIStatusError as error:
        after = error.response.headers.get("retry-after")
        print(type(error).__name__, error.status_code, error.type, error.code, after)
        break
