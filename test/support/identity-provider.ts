// A real OpenID Connect provider, with a form to sign in at, driven as a browser would.
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

export interface Person {
  sub: string
  email: string
  name: string
  groups?: string[]
  /** True when absent; `undefined` leaves the claim out. */
  email_verified?: boolean | string | undefined
}

export interface TestProvider {
  issuer: string
  people: Map<string, Person>
  /** Bodies that the token endpoint received. */
  tokenRequests: Record<string, unknown>[]
  /** Goes where a start leads, signs in as somebody, and returns the address that leads back. */
  visit(url: string, login: string): Promise<string>
  close(): Promise<void>
}

interface Teardown {
  teardown(work: () => unknown): void
}

/** @param redirectUris where it may lead back to */
export async function openIdentityProvider(
  t: Teardown,
  redirectUris: string[],
  client = { id: 'tenantry', secret: 'a very secret secret of the client' },
  /** Whether claims of scopes are in UserInfo alone, as OpenID Connect Core 5.4 has it. */
  claimsInUserInfo = false,
): Promise<TestProvider> {
  const people = new Map<string, Person>()
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        token_endpoint_auth_method: 'client_secret_post',
        redirect_uris: redirectUris,
        application_type: 'web',
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    conformIdTokenClaims: claimsInUserInfo,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    pkce: { required: () => true },
    cookies: { keys: ['test'] },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: async () => ({ email_verified: true, ...people.get(id), sub: people.get(id)?.sub ?? id }) as never,
    }),
    features: { devInteractions: { enabled: true } },
  })
  provider.on('server_error', () => {})
  const tokenRequests: Record<string, unknown>[] = []
  const noteRequest = ({ oidc }: { oidc: { body?: Record<string, unknown> } }) => tokenRequests.push({ ...oidc.body })
  provider.on('grant.success', noteRequest as never)
  provider.on('grant.error', noteRequest as never)
  server.on('request', provider.callback())
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()).closeAllConnections())
  t.teardown(close)

  async function visit(url: string, login: string): Promise<string> {
    const cookies = new Map<string, string>()
    const step = async (at: string, form?: URLSearchParams) => {
      const answer = await fetch(at, {
        redirect: 'manual',
        headers: {
          cookie: [...cookies].map(([k, v]) => `${k}=${v}`).join('; '),
          ...(form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
        },
        ...(form ? { method: 'POST', body: form } : {}),
      })
      for (const cookie of answer.headers.getSetCookie()) {
        const [pair = ''] = cookie.split(';')
        const [name = '', ...value] = pair.split('=')
        cookies.set(name, value.join('='))
      }
      const location = answer.headers.get('location')
      return { location: location && new URL(location, at).href, html: await answer.text(), status: answer.status }
    }
    let at = url
    for (let steps = 0; steps < 12; steps++) {
      if (!at.startsWith(issuer)) return at
      const { location, html, status } = await step(at)
      if (location) {
        at = location
        continue
      }
      const prompt = html.match(/name="prompt" value="(\w+)"/)?.[1]
      if (!prompt) throw new Error(`${status} at ${at}: ${html.slice(0, 300)}`)
      const answered = await step(at, new URLSearchParams({ prompt, ...(prompt === 'login' ? { login, password: 'any' } : {}) }))
      at = answered.location!
    }
    throw new Error('the provider leads in circles')
  }
  return { issuer, people, tokenRequests, visit, close }
}
