// Node's own fetch (undici): a GET, then a POST that comes back.
const base = process.argv[2];
const first = await fetch(base + "/bytes/1000");
console.log(first.status, (await first.arrayBuffer()).byteLength);
const second = await fetch(base + "/echo", { method: "POST", body: JSON.stringify({ a: 1 }) });
console.log(second.status, await second.text());
