# The anthropic package as its README shows it: nothing names a base URL, so it asks api.anthropic.com.
from anthropic import Anthropic

client = Anthropic(timeout=20, max_retries=0)
asked = {"model": "claude-test", "max_tokens": 50}

message = client.messages.create(messages=[{"role": "user", "content": "plain message"}], **asked)
print(message.content[0].text, message.stop_reason)

with client.messages.stream(messages=[{"role": "user", "content": "streamed message"}], **asked) as stream:
    pieces = list(stream.text_stream)
print("".join(pieces), len(pieces))
