// What an OAuth client of npm (openid-client) makes of the authority: it is given
// the issuer and nothing else of the authority's, on standard input, and prints
// what came of each step as JSON.
import * as oauth from 'openid-client'

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { issuer, id, secret, root, audience } = JSON.parse(Buffer.concat(chunks).toString())

const discover = (name, auth) =>
  oauth.discovery(new URL(issuer), name, undefined, auth, { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] })

const refused = async (promise) => {
  try {
    await promise
    return 'accepted'
  } catch (e) {
    return `${e.status} ${e.error ?? e.cause[0].scheme}` // a challenge comes as an error of its own
  }
}

const out = { methods: {} }
for (const [method, auth] of [['basic', oauth.ClientSecretBasic(secret)], ['post', oauth.ClientSecretPost(secret)]]) {
  const service = await discover(id, auth)
  const granted = await oauth.clientCredentialsGrant(service, { audience, scope: 'photos:read' })
  const before = await oauth.tokenIntrospection(service, root.narrowed)
  await oauth.tokenRevocation(service, granted.access_token)
  out.methods[method] = {
    token: granted.access_token, type: granted.token_type, expires: granted.expires_in, scope: granted.scope,
    introspected: before,
    otherAudience: await refused(oauth.clientCredentialsGrant(service, { audience: 'bank' })),
    otherScope: await refused(oauth.clientCredentialsGrant(service, { audience, scope: 'photos:write' })),
  }
}
const wrong = await discover(id, oauth.ClientSecretBasic('mds_wrong'))
out.wrongSecret = await refused(oauth.clientCredentialsGrant(wrong, { audience }))

const app = await discover('an-app', oauth.None())
const first = await oauth.refreshTokenGrant(app, root.token, { audience })
const second = await oauth.refreshTokenGrant(app, first.refresh_token, { resource: audience })
out.refreshed = { access: second.access_token, refresh: second.refresh_token, type: second.token_type, expires: second.expires_in }
out.garbage = await refused(oauth.refreshTokenGrant(app, 'garbage'))
await oauth.tokenRevocation(app, second.refresh_token)
out.loggedOut = await refused(oauth.refreshTokenGrant(app, second.refresh_token))
console.log(JSON.stringify(out))
