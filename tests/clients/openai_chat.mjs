// The openai npm package, plain and streaming, against whatever api.openai.com resolves to.
import OpenAI from "openai";

const client = new OpenAI({ timeout: 20000, maxRetries: 0 });
const messages = (content) => [{ role: "user", content }];

const chat = await client.chat.completions.create({ model: "gpt-4o-mini", messages: messages("plain chat") });
console.log(chat.choices[0].message.content);

const pieces = [];
const stream = await client.chat.completions.create({
  model: "gpt-4o-mini", messages: messages("streamed chat"), stream: true,
});
for await (const chunk of stream) {
  const piece = chunk.choices[0].delta.content;
  if (piece) pieces.push(piece);
}
console.log(pieces.join(""), pieces.length);

const answer = await client.responses.create({ model: "gpt-4o-mini", input: "plain response" });
console.log(answer.output_text);
