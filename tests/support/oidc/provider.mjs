// Runs oidc-provider for tests: provider.mjs SETTINGS PACKAGES (a JSON file, and the folder with the packages).
//
// Settings, read anew at each login: port, cert, key (files), client {id, secret, redirect_uris, post_logout_redirect_uris, backchannel_logout_uri},
// accounts {name: [groups]}, keys (JWKS, private), idTokenSeconds. A login form takes any password for a known account.
import {createServer} from 'node:https';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';

const [path, packages] = process.argv.slice(2);
const {default: Provider, errors} = await import(createRequire(`${packages}/package.json`).resolve('oidc-provider'));
const read = () => JSON.parse(readFileSync(path, 'utf8'));
const settings = read();
const issuer = `https://127.0.0.1:${settings.port}`;

const provider = new Provider(issuer, {
  clients: [{
    client_id: settings.client.id,
    client_secret: settings.client.secret,
    redirect_uris: settings.client.redirect_uris,
    post_logout_redirect_uris: settings.client.post_logout_redirect_uris,
    backchannel_logout_uri: settings.client.backchannel_logout_uri,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    id_token_signed_response_alg: 'RS256',
  }],
  jwks: settings.keys,
  cookies: {keys: ['only for tests']},
  claims: {openid: ['sub'], profile: ['preferred_username', 'groups']},
  conformIdTokenClaims: false, // as most providers do: the claims of a scope are in the ID token
  features: {
    devInteractions: {enabled: false},
    backchannelLogout: {enabled: Boolean(settings.client.backchannel_logout_uri)},
    rpInitiatedLogout: {enabled: true},
  },
  pkce: {required: () => true},
  issueRefreshToken: async () => settings.refresh !== false,
  rotateRefreshToken: true,
  ttl: {AccessToken: 600, AuthorizationCode: 60, IdToken: settings.idTokenSeconds ?? 600, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600},
  findAccount: async (context, id) => {
    const groups = read().accounts[id];
    if (groups === undefined) return undefined; // removed, or disabled
    return {accountId: id, claims: async () => ({sub: id, preferred_username: id, groups})};
  },
  loadExistingGrant: async (context) => {
    const grant = new context.oidc.provider.Grant({
      clientId: context.oidc.client.clientId, accountId: context.oidc.session.accountId,
    });
    grant.addOIDCScope('openid profile');
    await grant.save();
    return grant;
  },
  fetch: (url, options) => fetch(url, {...options, dispatcher: undefined}), // its own refuses addresses of the loopback
  interactions: {url: (context, interaction) => `/interaction/${interaction.uid}`},
});

provider.on('backchannel.error', (context, error) => console.log('back-channel logout:', error));
const handle = provider.callback();
const page = (text) => `<!doctype html><meta charset="utf-8"><title>Sign in</title>${text}`;
createServer({cert: readFileSync(settings.cert), key: readFileSync(settings.key)}, async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return handle(request, response);
  response.setHeader('Content-Type', 'text/html');
  if (request.method === 'GET') {
    return response.end(page('<form method="post"><input name="login" aria-label="Account"><button>Sign in</button></form>'));
  }
  let body = '';
  for await (const part of request) body += part;
  try {
    const login = new URLSearchParams(body).get('login');
    if (!(login in read().accounts)) throw new errors.AccessDenied('no such account');
    return await provider.interactionFinished(request, response, {login: {accountId: login}}, {mergeWithLastSubmission: false});
  } catch (error) {
    response.statusCode = 400;
    return response.end(page(String(error)));
  }
}).listen(settings.port, '127.0.0.1', () => console.log(issuer));
