// Two API processes and what one changes: the other must know it at its next request.
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { startApi } from '../support/api-process.ts'
import { PASSWORD, type TestTenant, testApp, times } from '../support/app.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { testServices } from '../support/services.ts'

interface Reply {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever shape the contract promises
  body: any
}

/** One request to a process, over the wire. */
async function call(
  url: string,
  host: string,
  token: string,
  method: string,
  path: string,
  payload?: object,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const answer = await fetchAs(host, `${url}/api/v1${path}`, {
    method,
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(payload ? { 'content-type': 'application/json' } : {}),
      ...headers,
    },
    ...(payload ? { body: JSON.stringify(payload) } : {}),
  })
  const text = await answer.text()
  return { status: answer.status, body: text ? JSON.parse(text) : null }
}

t.test('two hundred changes of rights, three processes, twenty clients: no answer is older than the last change', async (t) => {
  const here = await testApp(t)
  const acme = await here.tenant()
  const user = await acme.user('viewer')
  const processes = await Promise.all([1, 2, 3].map(() => startApi(here.runtime.config)))
  t.teardown(() => processes.map(({ child }) => child.kill('SIGKILL')))
  const [a] = processes.map(({ url }) => url) as [string]
  const change = (method: string, path: string, payload?: object) =>
    call(a, acme.host, acme.admin.token, method, `/users/${user.userId}/overrides${path}`, payload)

  let expected = 200
  let generation = 0
  /** False while a change is under way: then either answer is right. */
  let settled = true
  let running = true
  let held = 0
  const wrong: string[] = []
  const clients = times(20, async (n) => {
    const { url } = processes[n % processes.length]!
    while (running) {
      const [seen, was] = [generation, settled]
      const { status } = await call(url, acme.host, user.token, 'GET', '/erp/parties')
      if (!was || !settled || seen !== generation) continue
      held++
      if (status !== expected) wrong.push(`${status} instead of ${expected} at ${generation} from process ${n % processes.length}`)
    }
  })
  /** By answers and not by the clock: on a slow machine as many are held against each change as on a fast one. */
  const someAnswers = async () => {
    const before = held
    await new Promise((resolve) => setTimeout(resolve, 30))
    while (held < before + 3) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  for (let n = 0; n < 100; n++) {
    settled = false
    const { body } = await change('POST', '', { permission: 'erp.party.read', effect: 'deny', reason: 'test' })
    expected = 403
    generation++
    settled = true
    await someAnswers()
    settled = false
    await change('DELETE', `/${body.data[0].id}`)
    expected = 200
    generation++
    settled = true
    await someAnswers()
  }
  running = false
  await Promise.all(clients)
  t.same(wrong, [])
  t.ok(held > 500, `${held} answers were held against it`)
})

const redis = testServices().redis
for (const [name, overrides] of [
  ['PostgreSQL alone', { REDIS_URL: undefined }],
  ['Redis', { REDIS_URL: redis ?? undefined }],
] as const) {
  t.test(
    `what one process changes the other knows at its next request, with ${name}`,
    { skip: name === 'Redis' && !redis ? 'this run has no Redis' : false },
    async (t) => {
      const here = await testApp(t)
      const acme = await here.tenant()
      const config = { ...here.runtime.config, ...overrides } as typeof here.runtime.config
      const processes = await Promise.all([startApi(config), startApi(config)])
      t.teardown(() => processes.map(({ child }) => child.kill('SIGKILL')))
      const [a, b] = processes.map(({ url }) => url) as [string, string]
      const admin = (method: string, path: string, payload?: object, headers?: Record<string, string>) =>
        call(a, acme.host, acme.admin.token, method, path, payload, headers)
      const stillIn = async (token: string) => (await call(b, acme.host, token, 'GET', '/auth/me')).status
      const reads = async (token: string) => (await call(b, acme.host, token, 'GET', '/erp/parties')).status

      const changes: Record<
        string,
        (
          acme: TestTenant,
        ) => Promise<[before: Promise<number>, after: () => Promise<number>, change: () => Promise<Reply>, expected: number]>
      > = {
        'a session is revoked': async (acme) => {
          const user = await acme.user('viewer')
          const [session] = (await user.get('/auth/sessions')).data
          return [
            stillIn(user.token),
            () => stillIn(user.token),
            () => admin('DELETE', `/users/${user.userId}/sessions/${session.id}`),
            401,
          ]
        },
        'all sessions are revoked': async (acme) => {
          const user = await acme.user('viewer')
          return [stillIn(user.token), () => stillIn(user.token), () => admin('DELETE', `/users/${user.userId}/sessions`), 401]
        },
        'a user is switched off': async (acme) => {
          const user = await acme.user('viewer')
          return [stillIn(user.token), () => stillIn(user.token), () => admin('POST', `/users/${user.userId}/disable`, { version: 1 }), 401]
        },
        'a user is let go': async (acme) => {
          const user = await acme.user('viewer')
          return [
            stillIn(user.token),
            () => stillIn(user.token),
            () => admin('DELETE', `/users/${user.userId}`, undefined, { 'if-match': '"1"' }),
            401,
          ]
        },
        'a password is changed elsewhere': async (acme) => {
          const user = await acme.user('viewer')
          const other = (await acme.login(user.email)).data.access_token
          const change = () =>
            call(a, acme.host, other, 'POST', '/auth/password/change', {
              current_password: PASSWORD,
              password: 'roses under the second roof',
            })
          return [stillIn(user.token), () => stillIn(user.token), change, 401]
        },
        'a role is taken back': async (acme) => {
          const user = await acme.user('viewer')
          const [role] = (await acme.admin.get(`/users/${user.userId}/roles`)).data
          return [reads(user.token), () => reads(user.token), () => admin('DELETE', `/users/${user.userId}/roles/${role.id}`), 403]
        },
        'an API key is revoked': async (acme) => {
          const { data } = await acme.admin.post('/api-keys', { name: newId(), permissions: ['erp.party.read'] })
          return [reads(data.key), () => reads(data.key), () => admin('DELETE', `/api-keys/${data.id}`), 401]
        },
        'a second factor is asked for': async (acme) => {
          const user = await acme.user('viewer', { organizationId: acme.organizations[1]!.id })
          const change = () => admin('PATCH', '/tenant/security', { mfa_organizations: [acme.organizations[1]!.id] })
          // The administrator works in all organizations: asked last, because he is asked too.
          return [reads(user.token), () => reads(user.token), change, 403]
        },
      }
      for (const [what, arrange] of Object.entries(changes)) {
        const [before, after, change, expected] = await arrange(acme)
        t.equal(await before, 200, `${what}: before`)
        t.ok((await change()).status < 300, `${what}: done`)
        t.equal(await after(), expected, `${what}: the very next request`)
      }
      const fresh = await here.tenant()
      const users = await Promise.all(times(20, () => fresh.user('viewer')))
      const late: number[] = []
      for (const user of users) {
        await stillInOn(b, fresh, user.token)
        await call(a, fresh.host, fresh.admin.token, 'DELETE', `/users/${user.userId}/sessions`)
        late.push(await stillInOn(b, fresh, user.token))
      }
      t.same([...new Set(late)], [401], 'twenty times over')
    },
  )
}

const stillInOn = async (url: string, tenant: TestTenant, token: string) => (await call(url, tenant.host, token, 'GET', '/auth/me')).status
