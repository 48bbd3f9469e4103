# The anthropic package as its README shows it, asked about an address and a card: a line for each way of asking.
import sys

from anthropic import Anthropic

client = Anthropic(default_headers={"x-api-key": "sk-test"}, timeout=20, max_retries=0)
text = f"Write to {sys.argv[1]} about {sys.argv[2]} please"
asked = {"model": "claude-test", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}

print(client.messages.create(**asked).content[0].text)

with client.messages.stream(**asked) as stream:
    print("".join(stream.text_stream))
