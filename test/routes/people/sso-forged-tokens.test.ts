// ID tokens that are not the provider's, or not for this client or this sign-in.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { testApp } from '../../support/app.ts'
import { singleSignOn, stateOf } from '../../support/single-sign-on.ts'

const testing = await testApp(t)
const { tenant, request } = testing
const { prove } = singleSignOn(testing)

interface Forgery {
  claims?: Record<string, unknown>
  /** Signed by a key that the provider does not publish. */
  foreignKey?: boolean
  unsigned?: boolean
}

/** A provider whose token endpoint answers with whatever ID token is asked of it. */
async function forgingProvider(t: { teardown(work: () => unknown): void }, metadata: Record<string, unknown> = {}) {
  const [published, foreign] = await Promise.all([generateKeyPair('RS256'), generateKeyPair('RS256')])
  const jwk = { ...(await exportJWK(published.publicKey)), kid: 'k', alg: 'RS256', use: 'sig' }
  const next = { nonce: '', forgery: {} as Forgery }
  const server = createServer(async (incoming, outgoing) => {
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const json = (body: object) => outgoing.setHeader('content-type', 'application/json').end(JSON.stringify(body))
    if (incoming.url?.startsWith('/.well-known'))
      return json({
        issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/jwks`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        ...metadata,
      })
    if (incoming.url === '/jwks') return json({ keys: [jwk] })
    incoming.resume()
    const { claims = {}, foreignKey, unsigned } = next.forgery
    const now = Math.floor(Date.now() / 1000)
    const body = { iss: issuer, aud: 'tenantry', sub: 'eve', nonce: next.nonce, iat: now, exp: now + 60, email_verified: true, ...claims }
    const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
    const idToken = unsigned
      ? `${encoded({ alg: 'none' })}.${encoded(body)}.`
      : await new SignJWT(body).setProtectedHeader({ alg: 'RS256', kid: 'k' }).sign((foreignKey ? foreign : published).privateKey)
    return json({ access_token: 'x', token_type: 'Bearer', id_token: idToken })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise<void>((resolve) => server.close(() => resolve()).closeAllConnections()))
  return { issuer: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, next }
}

/** A tenant with a forging provider; the function signs in with a forged ID token. */
async function withForger(t: { teardown(work: () => unknown): void }, metadata: Record<string, unknown> = {}) {
  const acme = await tenant()
  const forger = await forgingProvider(t, metadata)
  const domains = [`${acme.slug}.example`]
  const created = await acme.admin.post('/tenant/identity-providers', {
    name: 'Forger',
    issuer: forger.issuer,
    client_id: 'tenantry',
    domains,
  })
  await prove(acme.admin, created.data.id)
  const start = () => request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${created.data.id}/start?token=body` })
  return {
    start,
    signIn: async (forgery: Forgery) => {
      const started = await start()
      const { searchParams } = new URL(String(started.headers.location))
      forger.next.nonce = searchParams.get('nonce')!
      forger.next.forgery = { ...forgery, claims: { email: `eve@${acme.slug}.example`, ...forgery.claims } }
      return request(acme.host, {
        method: 'GET',
        url: `/api/v1/auth/sso/callback?code=x&state=${searchParams.get('state')}`,
        headers: { cookie: stateOf(started) },
      })
    },
  }
}

t.test('an ID token is refused with a foreign signature, none, another audience, issuer or nonce, or past its time', async (t) => {
  const { signIn } = await withForger(t)
  t.equal((await signIn({})).status, 200, 'the forger can also tell the truth')
  const past = Math.floor(Date.now() / 1000) - 3600
  const forgeries: Record<string, Forgery> = {
    'foreign key': { foreignKey: true },
    unsigned: { unsigned: true },
    audience: { claims: { aud: 'another-client' } },
    issuer: { claims: { iss: 'https://login.example' } },
    nonce: { claims: { nonce: 'of another start' } },
    expired: { claims: { iat: past - 60, exp: past } },
  }
  for (const [name, forgery] of Object.entries(forgeries))
    t.match(await signIn(forgery), { status: 401, body: { detail: 'sso_failed' } }, name)
})

t.test('metadata that names another issuer is refused', async (t) => {
  const { start } = await withForger(t, { issuer: 'https://login.example' })
  t.match(await start(), { status: 401, body: { detail: 'sso_failed' } })
})
