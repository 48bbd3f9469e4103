// node app.mjs SOCKET LOG: writes one line a request that reaches the application: method and target.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";

const [socket, log] = process.argv.slice(2);
createServer((request, response) => {
  appendFileSync(log, `${request.method} ${request.url}\n`);
  request.on("error", () => response.destroy());
  request.on("end", () => response.end("ok"));
  request.resume();
}).listen(socket);
