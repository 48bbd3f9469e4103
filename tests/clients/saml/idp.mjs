// A SAML 2.0 identity provider (samlp, signed with xml-crypto) for the tests of sign-in through a bridge.
//   node idp.mjs HOST PORT TLS_KEY TLS_CERT SIGNING_KEY SIGNING_CERT IMPOSTOR_KEY IMPOSTOR_CERT
// It prints a line when it listens.
//   /metadata   for the bridge
//   /sso        signs the user in who is named by HTTP Basic, and gives the browser a form with the signed assertion
//   /stale      the same, with an assertion whose time is over
//   /impostor   the same, signed with a key that is not in the metadata
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';

const samlp = createRequire(import.meta.url)('samlp');
const [host, port, ...files] = process.argv.slice(2);
const [tlsKey, tlsCert, key, cert, impostorKey, impostorCert] = files.map((file) => readFileSync(file));

const users = {
  ada: { password: 'correct horse', uid: 'ada', memberOf: ['dev', 'ml-team'] },
  bob: { password: 'battery staple', uid: 'bob', memberOf: ['sales'] },
};

// Whom it makes assertions for. The second is another service, at the bridge's own address: an assertion for it differs from
// one for the bridge in the audience alone.
const bridge = 'https://203.0.113.10:8443';
const services = { [`${bridge}/saml/metadata`]: `${bridge}/saml/acs/post`, 'https://other.example.test/saml': `${bridge}/saml/acs/post` };

function user(request) {
  const [, basic] = (request.headers.authorization ?? '').split('Basic ');
  const [name, password] = Buffer.from(basic ?? '', 'base64').toString().split(':');
  return Object.hasOwn(users, name) && users[name].password === password ? users[name] : undefined;
}

class Profile {
  constructor(user) {
    this.user = user;
  }
  getClaims() {
    return { uid: this.user.uid, memberOf: this.user.memberOf };
  }
  getNameIdentifier() {
    return { nameIdentifier: this.user.uid, nameIdentifierFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent' };
  }
}
Profile.prototype.metadata = [];

const options = {
  issuer: `https://${host}:${port}/metadata`,
  key,
  cert,
  lifetimeInSeconds: 300,
  profileMapper: (user) => new Profile(user),
  getUserFromRequest: user,
  getPostURL(audience, _document, _request, answer) {
    const url = services[audience];
    Object.assign(this, { destination: url, recipient: url });
    answer(null, url);
  },
};

const routes = {
  '/metadata': samlp.metadata({ ...options, profileMapper: Profile, redirectEndpointPath: '/sso', postEndpointPath: '/sso' }),
  '/sso': samlp.auth(options),
  '/stale': samlp.auth({ ...options, lifetimeInSeconds: -600 }),
  '/impostor': samlp.auth({ ...options, key: impostorKey, cert: impostorCert }),
};

// What samlp uses of Express, and no more.
createServer({ key: tlsKey, cert: tlsCert }, (request, response) => {
  const url = new URL(request.url, `https://${host}:${port}`);
  const route = Object.hasOwn(routes, url.pathname) ? routes[url.pathname] : undefined;
  Object.assign(request, { protocol: 'https', originalUrl: request.url, query: Object.fromEntries(url.searchParams) });
  response.set = (name, value) => response.setHeader(name, value);
  response.send = (body) => (typeof body === 'number' ? response.writeHead(body).end() : response.end(body));
  const failed = (error) => response.writeHead(500).end(String(error));
  if (route) route(request, response, failed);
  else response.writeHead(404).end();
}).listen(Number(port), host, () => console.log('listening'));
