# The openai package as its README shows it, asked about an address and a card: a line for each way of asking.
import sys

from openai import OpenAI

client = OpenAI(timeout=20, max_retries=0)
text = f"Write to {sys.argv[1]} about {sys.argv[2]} please"
messages = [{"role": "user", "content": text}]

chat = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
print(chat.choices[0].message.content)

chunks = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))

print(client.responses.create(model="gpt-4o-mini", input=text).output_text)

for model in ["gpt-4o-mini", "gpt-4o-mini-gzip"]:
    with client.responses.create(model=model, input=text, stream=True) as events:
        print("".join(event.delta for event in events if event.type == "response.output_text.delta"))
