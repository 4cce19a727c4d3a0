// Tenants with single sign-on at a real provider, and a browser that signs in through it.
import { assignRole } from '../../domain/access/index.ts'
import { createUser, hashPassword } from '../../domain/identity/index.ts'
import { type Answer, type Client, PASSWORD, type TestApp, type TestTenant } from './app.ts'
import { openIdentityProvider, type TestProvider } from './identity-provider.ts'

interface Teardown {
  teardown(work: () => unknown): void
}

export const CLIENT_SECRET = 'a very secret secret of the client'

export interface SignInOptions {
  query?: string
  /** Whether the browser that comes back is the one that started. */
  cookie?: boolean
}

export interface SingleSignOn {
  acme: TestTenant
  idp: TestProvider
  /** Id of the provider at the tenant. */
  provider: string
}

/** The state cookie that a start set. */
export const stateOf = (started: Answer): string =>
  [started.headers['set-cookie']]
    .flat()
    .map(String)
    .find((c) => c.startsWith('sso_state='))!
    .split(';')[0]!

/** Helpers for single sign-on on an app, which then reads TXT records from a map instead of the DNS. */
export function singleSignOn({ tenant, request, runtime }: TestApp) {
  const records = new Map<string, string[][]>()
  runtime.services.resolveTxt = async (name) => records.get(name) ?? Promise.reject(Object.assign(new Error('none'), { code: 'ENOTFOUND' }))

  /** Publishes the records of a provider's domains beside others, and has them verified. Returns the last answer. */
  async function prove(by: Client, provider: string): Promise<Answer> {
    const { data } = await by.get(`/tenant/identity-providers/${provider}/domains`)
    let answer: Answer | undefined
    for (const { id, record, value } of data) {
      records.set(record, [...(records.get(record) ?? []), [value]])
      answer = await by.post(`/tenant/identity-providers/${provider}/domains/${id}/verify`, {})
    }
    return answer!
  }

  /** A tenant whose users sign in at a provider of their own, with a proven domain. */
  async function withSso(t: Teardown, more: object = {}, claimsInUserInfo = false): Promise<SingleSignOn> {
    const acme = await tenant()
    const idp = await openIdentityProvider(t, [callbackOf(acme)], undefined, claimsInUserInfo)
    const created = await acme.admin.post('/tenant/identity-providers', {
      name: 'Company',
      issuer: idp.issuer,
      client_id: 'tenantry',
      domains: [`${acme.slug}.example`],
      role_map: { growers: 'operator', bosses: 'manager' },
      ...more,
    })
    if (created.status !== 201) throw new Error(created.text)
    const provider: string = created.data.id
    const secret = await acme.admin.put(`/tenant/identity-providers/${provider}/secret`, { client_secret: CLIENT_SECRET })
    if (secret.status !== 204) throw new Error(secret.text)
    const proven = await prove(acme.admin, provider)
    if (proven.status !== 200) throw new Error(proven.text)
    return { acme, idp, provider }
  }

  /** Starts here, signs in there, and comes back. */
  async function signIn(
    { acme, idp, provider }: SingleSignOn,
    login: string,
    { query = '?token=body', cookie = true }: SignInOptions = {},
  ) {
    const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start${query}` })
    if (started.status !== 302) return started
    const back = new URL(await idp.visit(String(started.headers.location), login))
    return request(acme.host, { method: 'GET', url: back.pathname + back.search, headers: cookie ? { cookie: stateOf(started) } : {} })
  }

  /** The links of a client's account. */
  const linksOf = async (client: Client): Promise<{ id: string; status: string; reason: string }[]> =>
    (await client.get('/auth/sso/links')).data

  /** Asks for a link by a first sign-in and confirms it as the owner of the account. */
  async function linkAccount(sso: SingleSignOn, client: Client, login: string): Promise<string> {
    sso.idp.people.set(login, { sub: `sub-${login}`, email: client.email, name: login, ...sso.idp.people.get(login) })
    const refused = await signIn(sso, login)
    if (refused.body.detail !== 'sso_link_required') throw new Error(refused.text)
    const { id } = (await linksOf(client)).find(({ status }) => status === 'pending')!
    const confirmed = await client.post(`/auth/sso/links/${id}/confirm`, {})
    if (confirmed.status !== 200) throw new Error(confirmed.text)
    return id
  }

  /** Changes a provider at its current version. */
  async function change(sso: Pick<SingleSignOn, 'provider'>, by: Client, patch: object): Promise<Answer> {
    const { version } = (await by.get(`/tenant/identity-providers/${sso.provider}`)).data
    return by.patch(`/tenant/identity-providers/${sso.provider}`, { version, ...patch })
  }

  /** Another administrator, of a domain that no provider covers: without one no domain is enforced. */
  async function breakGlass(acme: TestTenant): Promise<Client> {
    const hash = await hashPassword(PASSWORD)
    const email = `break-glass-${acme.slug}@elsewhere.example`
    const userId = await runtime.services.planes.control.write(acme.scope, async (tx) => {
      const id = await createUser(tx, { email, name: 'Break Glass', password: '', hash })
      await assignRole(tx, id, acme.roles.admin)
      return id
    })
    const { data } = await acme.login(email)
    return { ...acme.as(data.access_token), userId, email }
  }

  const post = (host: string, path: string, payload: object = {}) => request(host, { method: 'POST', url: `/api/v1${path}`, payload })

  return { withSso, breakGlass, signIn, prove, linkAccount, linksOf, change, post, records }
}

export const callbackOf = (acme: TestTenant) => `http://${acme.host}/api/v1/auth/sso/callback`
