// An app a test file, tenants of its own a test, a client a role.
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { type AssignmentScope, assignRole } from '../../domain/access/index.ts'
import { createUser, hashPassword } from '../../domain/identity/index.ts'
import { newId, type Scope, systemScope } from '../../domain/kernel/index.ts'
import { createTenant, makeHome, type NewTenant, type ProvisionedTenant } from '../../domain/tenancy/index.ts'
import { buildApp } from '../../server/app.ts'
import type { Config } from '../../server/config.ts'
import type { Runtime } from '../../server/runtime.ts'
import { ownedStorage } from '../../server/storage.ts'
import { dataOwners, quietLog, testRuntime } from './services.ts'

export interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever shape the contract promises
  body: any
  // biome-ignore lint/suspicious/noExplicitAny: the same
  data: any
  headers: Record<string, string | string[] | number | undefined>
  text: string
}

export interface Client {
  token: string
  userId: string
  email: string
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  put(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  patch(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>
  delete(path: string, headers?: Record<string, string>): Promise<Answer>
}

export type RoleName = 'admin' | 'manager' | 'operator' | 'viewer'

export interface TestTenant extends ProvisionedTenant {
  slug: string
  host: string
  admin: Client
  manager: Client
  operator: Client
  viewer: Client
  /** A unit of work's scope in the first organization. */
  scope: Scope
  /** Another user with a role. */
  user(role: RoleName, scope?: AssignmentScope): Promise<Client>
  /** A client on a token of its own. */
  as(token: string): Client
  /** Runs SQL-level arrangement on the control plane through domain functions. */
  login(email: string): Promise<Answer>
}

export interface TestApp {
  app: FastifyInstance
  runtime: Runtime
  tenant(overrides?: Partial<NewTenant>): Promise<TestTenant>
  request(host: string, options: InjectOptions): Promise<Answer>
}

interface Teardown {
  teardown(work: () => unknown): void
}

export const PASSWORD = 'correct horse battery'
// One hash for all test users: what argon2 costs is measured elsewhere.
const passwordHash = hashPassword(PASSWORD)

export async function testApp(t: Teardown, overrides: Partial<Record<keyof Config, string>> = {}): Promise<TestApp> {
  const runtime = await testRuntime(overrides)
  const app = await buildApp(runtime.services, quietLog)
  t.teardown(async () => {
    await app.close()
    await runtime.close()
  })
  await app.ready()

  // A network of its own: buckets by address are shared through Redis with every other test that runs.
  const remoteAddress = `2001:db8:${randomBytes(4).toString('hex').match(/.{4}/g)!.join(':')}::1`
  async function request(host: string, options: InjectOptions): Promise<Answer> {
    const response = await app.inject({ remoteAddress, ...options, headers: { host, ...options.headers } })
    const json = String(response.headers['content-type'] ?? '').startsWith('application/json')
    const body = json && response.payload ? JSON.parse(response.payload) : null
    return { status: response.statusCode, body, data: body?.data, headers: response.headers, text: response.payload }
  }

  function client(host: string, token: string, userId: string, email: string): Client {
    const call =
      (method: string) =>
      (path: string, payload?: unknown, headers: Record<string, string> = {}) =>
        request(host, {
          method: method as 'GET',
          url: path.startsWith('/') && !path.startsWith('/api/') ? `/api/v1${path}` : path,
          ...(payload === undefined ? {} : { payload: payload as object }),
          headers: { authorization: `Bearer ${token}`, ...headers },
        })
    return {
      token,
      userId,
      email,
      get: (path, headers) => call('GET')(path, undefined, headers),
      post: call('POST'),
      put: call('PUT'),
      patch: call('PATCH'),
      delete: (path, headers) => call('DELETE')(path, undefined, headers),
    }
  }

  async function tenant(overrides: Partial<NewTenant> = {}): Promise<TestTenant> {
    const slug = overrides.slug ?? `t-${newId().slice(-12)}`
    const made = await createTenant(
      runtime.services.planes.control,
      {
        slug,
        name: slug,
        terms: 'paid',
        plan: 'enterprise',
        organizations: [
          {
            code: 'one',
            name: 'One',
            workspaces: [
              { code: 'north', name: 'North' },
              { code: 'south', name: 'South' },
            ],
          },
          { code: 'two', name: 'Two', workspaces: [] },
        ],
        ...overrides,
      },
      newId(),
    )
    if (overrides.home && overrides.home.mode !== 'shared') {
      await makeHome(runtime.services.planes.control, ownedStorage(dataOwners()), made.id)
    }
    const host = `${slug}.localhost`
    const login = (email: string) =>
      request(host, { method: 'POST', url: '/api/v1/auth/login?token=body', payload: { email, password: PASSWORD } })
    async function user(role: RoleName, scope: AssignmentScope = {}): Promise<Client> {
      const email = `${role}-${newId().slice(-8)}@${slug}.example`
      const hash = await passwordHash
      const id = await runtime.services.planes.control.write(systemScope(made.id, 'test', newId()), async (tx) => {
        const userId = await createUser(tx, { email, name: role, password: '', hash })
        await assignRole(tx, userId, made.roles[role], scope)
        return userId
      })
      const answer = await login(email)
      if (answer.status !== 200) throw new Error(`login: ${answer.text}`)
      return client(host, answer.data.access_token, id, email)
    }
    const [admin, manager, operator, viewer] = await Promise.all([user('admin'), user('manager'), user('operator'), user('viewer')])
    const scope: Scope = {
      ...systemScope(made.id, 'test', newId()),
      context: { organizationId: made.organizations[0]!.id, workspaceId: null },
    }
    return { ...made, slug, host, admin, manager, operator, viewer, scope, user, login, as: (token) => client(host, token, '', '') }
  }

  return { app, runtime, tenant, request }
}

/** Sends bytes as a form with a file. */
export async function upload(
  who: Client,
  bytes: Buffer | string,
  name = 'a.txt',
  query = '',
  headers: Record<string, string> = {},
): Promise<Answer> {
  const form = new FormData()
  form.append('file', new Blob([bytes as never]), name)
  const sent = new Response(form)
  return who.post(`/files${query}`, Buffer.from(await sent.arrayBuffer()), {
    'content-type': sent.headers.get('content-type')!,
    ...headers,
  })
}

export const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))

/** How many answers of each status: `{201: 10, 409: 10}`. */
export function tally(answers: readonly Answer[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

/** Asks again until the answer is right, or throws the last wrong one after `seconds`. */
export async function eventually<T>(ask: () => Promise<T>, right: (answer: T) => boolean, seconds = 15): Promise<T> {
  const until = Date.now() + seconds * 1000
  for (;;) {
    const answer = await ask()
    if (right(answer)) return answer
    if (Date.now() > until) throw new Error(`not in ${seconds} s; last answer: ${JSON.stringify(answer)?.slice(0, 500)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
