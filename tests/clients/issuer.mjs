// An OpenID Connect provider under test's orders (oauth2-mock-server): a line of JSON in, a line of JSON out.
//   node issuer.mjs HOST PORT KEY CERT
//   {"do":"start"}   with a key of its own, a new one each time
//   {"do":"stop"}
//   {"do":"token","claims":{...}}   {"token":"..."}; claims that are null are left out
import { createInterface } from 'node:readline';
import { OAuth2Server } from 'oauth2-mock-server';

const [host, port, key, cert] = process.argv.slice(2);
let server;

async function start() {
  server = new OAuth2Server(key, cert);
  await server.issuer.keys.generate('RS256');
  server.issuer.url = `https://${host}:${port}`;
  await server.start(Number(port), host);
  server.issuer.url = `https://${host}:${port}`;
  return { started: true };
}

async function token({ claims }) {
  const transform = (_header, payload) => {
    for (const [name, value] of Object.entries(claims)) {
      if (value === null) delete payload[name];
      else payload[name] = value;
    }
  };
  return { token: await server.issuer.buildToken({ scopesOrTransform: transform }) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  const orders = { start, token, stop: async () => ({ stopped: await server.stop().then(() => true) }) };
  console.log(JSON.stringify(await orders[order.do](order)));
}
