# The openai package as its README shows it: nothing names a base URL, so it asks api.openai.com.
from openai import OpenAI

client = OpenAI(timeout=20, max_retries=0)

chat = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "plain chat"}])
print(chat.choices[0].message.content)

pieces = []
for chunk in client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "streamed chat"}], stream=True
):
    if chunk.choices[0].delta.content:
        pieces.append(chunk.choices[0].delta.content)
print("".join(pieces), len(pieces))

print(client.responses.create(model="gpt-4o-mini", input="plain response").output_text)

pieces = []
with client.responses.create(model="gpt-4o-mini", input="streamed response", stream=True) as events:
    for event in events:
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        last = event.type
print("".join(pieces), len(pieces), last)
