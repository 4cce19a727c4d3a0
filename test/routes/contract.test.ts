// What every endpoint has in common.
import t from 'tap'
import { sql } from '../../domain/kernel/index.ts'
import { tally, testApp, times } from '../support/app.ts'
import { catalogue } from '../support/erp.ts'

const { app, tenant, request } = await testApp(t)
const party = (code: string, extra: object = {}) => ({ code, name: `Party ${code}`, roles: ['client'], ...extra })

t.test('create, read, change, delete, recover, history', async (t) => {
  const acme = await tenant()
  const made = await acme.admin.post('/erp/parties', party('A', { credit_limit: '1000' }))
  t.match(made, {
    status: 201,
    headers: { etag: '"1"', location: `/api/v1/erp/parties/${made.data.id}` },
    data: { code: 'A', credit_limit: '1000.0000', credit_hold: false, version: 1 },
  })
  const path = `/erp/parties/${made.data.id}`
  t.match(await acme.admin.patch(path, { name: 'Changed' }), { status: 400, body: { detail: 'version_required' } })
  t.match(await acme.admin.patch(path, { name: 'Changed' }, { 'if-match': '"1"' }), {
    status: 200,
    headers: { etag: '"2"' },
    data: { name: 'Changed', credit_limit: '1000.0000' },
  })
  t.match(await acme.admin.patch(path, { name: 'Stale', version: 1 }), {
    status: 409,
    body: { detail: 'version_conflict', error: { details: { current: { version: 2, name: 'Changed' } } } },
  })
  t.match(await acme.admin.patch(path, { credit_limit: null, version: 2 }), { status: 200, data: { credit_limit: null } })
  t.equal((await acme.admin.delete(path, { 'if-match': '"3"' })).status, 204)
  t.equal((await acme.admin.get(path)).status, 404)
  t.equal((await acme.admin.delete(path, { 'if-match': '"4"' })).status, 404)
  t.match(await acme.admin.post(`${path}/recover`, {}), { status: 200, data: { version: 5, deleted_at: null } })
  const history = (await acme.viewer.get(`${path}/history`)).data
  t.same(
    history.map((h: { action: string }) => h.action),
    ['update', 'update', 'update', 'update', 'insert'],
  )
  t.same(history[3].diff, { name: ['Party A', 'Changed'] })
  t.equal(history[3].actor_name, 'admin')
})

t.test('twenty clients change one version: one wins', async (t) => {
  const acme = await tenant()
  const { id } = (await acme.admin.post('/erp/parties', party('A'))).data
  t.same(tally(await Promise.all(times(20, (i) => acme.admin.patch(`/erp/parties/${id}`, { name: `N${i}`, version: 1 })))), {
    200: 1,
    409: 19,
  })
})

t.test('lists: keyset pages, sort, filters, search, fields, count, CSV', async (t) => {
  const acme = await tenant()
  const rows = times(60, (i) =>
    party(`P${String(i).padStart(3, '0')}`, {
      name: i % 10 === 0 ? `Rosa ${i}` : `Lily ${i}`,
      credit_hold: i % 2 === 0,
      roles: i % 3 ? ['client'] : ['supplier', 'client'],
    }),
  )
  t.equal((await acme.admin.post('/erp/parties/bulk', { rows })).status, 201)
  for (const sort of ['code', '-code', 'name', '-created_at', '-created_at,code', 'name,-created_at']) {
    const seen: string[] = []
    let next: string | null = ''
    for (let pages = 0; next !== null && pages < 10; pages++) {
      const answer = await acme.viewer.get(`/erp/parties?limit=17&sort=${sort}${next ? `&cursor=${next}` : ''}`)
      seen.push(...answer.data.map((r: { code: string }) => r.code))
      next = answer.body.pagination.next_cursor
      if (next) t.match(answer.headers.link, /rel="next"/)
    }
    t.equal(new Set(seen).size, 60, `${sort}: each row once`)
    t.equal(seen.length, 60)
    if (sort === 'code') t.same(seen, [...seen].sort())
  }
  const codes = async (query: string) => (await acme.viewer.get(`/erp/parties?limit=200&${query}`)).data.length
  t.equal(await codes('credit_hold=true'), 30)
  t.equal(await codes('roles=supplier'), 20)
  t.equal(await codes('code=P001,P002'), 2)
  t.equal(await codes('code.gte=P050'), 10)
  t.equal(await codes('code.like=P05'), 10)
  t.equal(await codes('q=rosa'), 6)
  t.equal(await codes('q=100%25'), 0)
  t.equal(await codes('created_at.lt=2020-01-01'), 0)
  t.match((await acme.viewer.get('/erp/parties?limit=1&count=exact&fields=id,code')).body, {
    data: [{ code: String }],
    pagination: { total: 60 },
  })
  t.match(await acme.viewer.get('/erp/parties?unknown=1'), { status: 400, body: { detail: 'invalid_query' } })
  const { next_cursor: cursor } = (await acme.viewer.get('/erp/parties?limit=5')).body.pagination
  t.match(await acme.viewer.get(`/erp/parties?limit=5&cursor=${cursor}&credit_hold=true`), {
    status: 400,
    body: { detail: 'invalid_cursor' },
  })
  const other = await tenant()
  t.match(await other.viewer.get(`/erp/parties?limit=5&cursor=${cursor}`), { status: 400, body: { detail: 'invalid_cursor' } })
  const csv = await acme.viewer.get('/erp/parties?sort=code&fields=code,name', { accept: 'text/csv' })
  t.match(csv.headers['content-type'], /text\/csv/)
  t.equal(csv.text.trim().split('\r\n').length, 61)
  t.equal(csv.text.split('\r\n')[1], 'P000,Rosa 0')
})

t.test('a common search term and a rare one find the same rows by their two ways', async (t) => {
  const acme = await tenant()
  for (let part = 0; part < 2; part++)
    await acme.admin.post('/erp/parties/bulk', {
      rows: times(700, (i) => party(`C${part}-${i}`, { name: i === 0 ? 'Zebra' : 'Common name' })),
    })
  t.equal((await acme.viewer.get('/erp/parties?q=zebra')).data.length, 2)
  t.equal((await acme.viewer.get('/erp/parties?q=common&limit=200')).data.length, 200)
})

t.test('a term of several words is found whole, whichever of them is asked for first', async (t) => {
  const acme = await tenant()
  const named = { A: 'Client number 77', B: 'number 77 Client', C: 'Client 77% number_1', D: 'Müller & Söhne GmbH', E: 'client NUMBER 770' }
  await acme.admin.post('/erp/parties/bulk', {
    rows: [
      ...Object.entries(named).map(([code, name]) => party(code, { name })),
      ...times(900, (i) => party(`P-${i}`, { name: `Client number ${1_000 + i}` })),
    ],
  })
  const found = async (q: string) =>
    (await acme.viewer.get(`/erp/parties?sort=code&q=${encodeURIComponent(q)}`)).data.map(({ code }: { code: string }) => code)
  t.same(await found('client number 77'), ['A', 'E'])
  t.same(await found('Client number 1007'), ['P-7'])
  t.same(await found('77 client'), ['B'])
  t.same(await found('77% number_1'), ['C'])
  t.same(await found('number%1'), [])
  t.same(await found('söhne gmbh'), ['D'])
  t.same(await found('& s'), ['D'])
  t.same(await found('number  1007'), [], 'as it was said')
})

t.test('bulk is all or nothing', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.post('/erp/parties/bulk', { rows: [party('A'), party('B'), party('A')] }), {
    status: 409,
    body: { detail: 'already_exists', error: { details: { fields: ['code'] } } },
  })
  t.equal((await acme.viewer.get('/erp/parties')).data.length, 0)
  t.match(await acme.admin.post('/erp/parties/bulk', { rows: [party('A'), { code: 'B' }] }), {
    status: 400,
    body: { error: { details: { errors: [{ path: '/rows/1' }] } } },
  })
})

t.test('an Idempotency-Key has one effect and one answer, also for twenty at once', async (t) => {
  const acme = await tenant()
  const post = (code: string, key: string) => acme.admin.post('/erp/parties', party(code), { 'idempotency-key': key })
  const answers = await Promise.all(times(20, () => post('A', 'k1')))
  t.same(tally(answers), { 201: 20 })
  t.equal(new Set(answers.map((a) => a.data.id)).size, 1)
  t.equal(answers.filter((a) => a.headers['idempotency-replayed'] === 'true').length, 19)
  t.match(await post('B', 'k1'), { status: 409, body: { detail: 'idempotency_key_reused' } })
  t.match(await post('A', 'k2'), { status: 409, body: { detail: 'already_exists' } })
  t.equal((await acme.operator.post('/erp/parties', party('A'), { 'idempotency-key': 'k1' })).status, 403, 'a key is its user’s')
  t.match(await post('C', 'a\u0007'), { status: 400, body: { detail: 'invalid_headers' } })
})

t.test('bad input gets the contract’s answer', async (t) => {
  const acme = await tenant()
  const raw = (payload: string, type = 'application/json') =>
    request(acme.host, {
      method: 'POST',
      url: '/api/v1/erp/parties',
      payload,
      headers: { 'content-type': type, authorization: `Bearer ${acme.admin.token}` },
    })
  t.match(await raw('{'), { status: 400, body: { detail: 'invalid_json' } })
  t.match(await raw('<a/>', 'application/xml'), { status: 415, body: { detail: 'unsupported_media_type' } })
  t.match(await raw(JSON.stringify(party('A', { name: 'x'.repeat(2_000_000) }))), { status: 413, body: { detail: 'body_too_large' } })
  t.match(await raw(JSON.stringify(party('A', { name: 'a\u0000b' }))), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await raw('{"code":"A","name":"\\ud800","roles":["client"]}'), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await raw(JSON.stringify(party('A', { nope: 1 }))), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await raw(JSON.stringify(party('A', { version: 3 }))), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await raw('{"__proto__":{"a":1},"code":"A","name":"a","roles":["client"]}'), { status: 400 })
  t.match(await raw(`${'['.repeat(5000)}${']'.repeat(5000)}`), { status: 400 })
  t.match(await acme.admin.get('/erp/parties/not-a-uuid'), { status: 400, body: { detail: 'invalid_params' } })
  t.match(await acme.admin.get('/erp/parties/%ff'), { status: 404 })
  t.match(await acme.admin.get('/nowhere'), { status: 404, body: { detail: 'route_not_found' } })
  t.match(await acme.admin.post('/erp/parties', party('  A  ', { name: ' trimmed ' })), {
    status: 201,
    data: { code: 'A', name: 'trimmed' },
  })
  t.match(await acme.admin.get('/erp/parties', { 'x-correlation-id': 'mine-1' }), { headers: { 'x-correlation-id': 'mine-1' } })
  const products = await catalogue(acme)
  t.match(await acme.admin.post('/erp/products', { code: 'X', name: 'X', uom_id: products.store }), {
    status: 400,
    body: { detail: 'invalid_reference', error: { details: { path: 'uom_id' } } },
  })
})

t.test('no answer of a server error says anything of the inside', async (t) => {
  const lonely = await testApp(t)
  lonely.app.log.level = 'silent'
  const acme = await lonely.tenant()
  await lonely.runtime.services.planes.data.get('main')!.close()
  const answer = await acme.admin.get('/erp/parties')
  t.ok(answer.status >= 500)
  t.notMatch(answer.text, /select|stack|slonik|node_modules/i)
})

t.test('a route that says nothing about access stops the start', async (t) => {
  const { default: Fastify } = await import('fastify')
  const { default: routeOptions } = await import('../../plugins/route-options.ts')
  const bare = Fastify()
  await bare.register(routeOptions)
  t.throws(() => bare.get('/open', async () => 'x'), /must say permission/)
  bare.get('/fine', { public: true }, async () => 'x')
  await bare.close()
})

async function walkAcross(t: Pick<typeof import('tap').default, 'equal' | 'match' | 'ok'>, mode: 'shared' | 'schema' | 'database') {
  const [acme, globex] = await Promise.all([
    tenant({ home: { mode, catalog_key: 'main' } }),
    tenant({ home: { mode, catalog_key: 'main' } }),
  ])
  const theirs = await catalogue(globex)
  const device = (await globex.admin.post('/telemetry/devices', { code: 'd1', name: 'D' })).data.id
  const draft = (
    await globex.operator.post('/erp/purchase-orders', {
      supplier_id: theirs.supplier,
      currency: 'EUR',
      lines: [{ product_id: theirs.product, quantity: '1', unit_price: '1' }],
    })
  ).data.id
  const ids: Record<string, string> = {
    parties: theirs.supplier,
    uoms: theirs.uom,
    products: theirs.product,
    locations: theirs.store,
    devices: device,
    'purchase-orders': draft,
    users: globex.viewer.userId,
    'api-keys': (await globex.admin.post('/api-keys', { name: 'Theirs', permissions: ['erp.party.read'] })).data.id,
    sessions: '01a1fcbc-5752-73c3-93e3-24edf2a8f24b',
  }
  const document = (await request('x', { method: 'GET', url: '/api/openapi.json' })).body
  let walked = 0
  type Operation = {
    security?: object[]
    requestBody?: { content: { 'application/json': { example: object; schema: { required?: string[] } } } }
  }
  for (const [path, operations] of Object.entries(document.paths as Record<string, Record<string, Operation>>)) {
    if (!path.startsWith('/api/v1') || !path.includes('{')) continue
    const entity = path
      .split('/')
      .slice(3)
      .find((segment) => segment in ids)
    const url = path.replace(/\{\w+\}/g, ids[entity ?? ''] ?? globex.organizations[0]!.id)
    for (const [method, operation] of Object.entries(operations)) {
      // A body with nothing but what it must have: what it may have would name things that are not there either.
      const body = operation.requestBody?.content['application/json']
      const payload = method === 'get' ? {} : { payload: body?.schema.required ? body.example : {} }
      const answer = await request(acme.host, {
        method: method.toUpperCase() as 'GET',
        url,
        headers: { authorization: `Bearer ${acme.admin.token}`, 'if-match': '"1"' },
        ...payload,
      })
      t.equal(answer.status, 404, `${method} ${path}: ${answer.text.slice(0, 120)}`)
      const foreign = await request(acme.host, {
        method: method.toUpperCase() as 'GET',
        url,
        headers: { authorization: `Bearer ${globex.admin.token}`, 'if-match': '"1"' },
        ...payload,
      })
      // On a tenant's host there is no console of the platform, whoever asks.
      if (path.startsWith('/api/v1/superadmin')) t.match(foreign, { status: 404, body: { detail: 'route_not_found' } })
      else if (operation.security?.length) t.equal(foreign.status, 401, `${method} ${path} with their token`)
      walked++
    }
  }
  t.ok(walked > 40, `${walked} operations walked`)
  t.match(await acme.admin.post('/erp/products', { code: 'X', name: 'X', uom_id: theirs.uom }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(
    await acme.operator.post('/erp/purchase-orders', {
      supplier_id: theirs.supplier,
      currency: 'EUR',
      lines: [{ product_id: theirs.product, quantity: '1', unit_price: '1' }],
    }),
    { status: 400 },
  )
  t.ok(app && sql)
}

for (const mode of ['shared', 'schema', 'database'] as const) {
  t.test(`no route lets another tenant’s ids, cursors or tokens through: ${mode}`, (t) => walkAcross(t, mode))
}

const QUESTIONS = new Set(
  ['exports', 'prices/resolve', 'parties/duplicates'].map((path) => `/api/v1/erp/${path}`).concat('/api/v1/rbac/simulate'),
)

t.test('every mutation is refused to a viewer and in read-only mode', async (t) => {
  const acme = await tenant()
  const frozen = await tenant({ terms: 'trial' })
  const { control } = (await import('../support/services.ts')) && { control: app.services.planes.control }
  await control.write(frozen.scope, (tx) =>
    tx.query(sql.run`update tenants set trial_ends_at = now() - interval '1 day' where id = ${tx.tenantId}`),
  )
  await new Promise((resolve) => setTimeout(resolve, 200))
  const document = (await request('x', { method: 'GET', url: '/api/openapi.json' })).body
  for (const [path, operations] of Object.entries(document.paths as Record<string, Record<string, { description?: string }>>)) {
    for (const [method, operation] of Object.entries(operations)) {
      // The platform's console is walked by its own test, on its own host.
      if (method === 'get' || !operation.description?.includes('Needs `') || path.startsWith('/api/v1/superadmin')) continue
      const url = path.replace(/\{\w+\}/g, acme.organizations[0]!.id)
      const ask = (host: string, token: string) =>
        request(host, {
          method: method.toUpperCase() as 'POST',
          url,
          payload: {},
          headers: { authorization: `Bearer ${token}`, 'if-match': '"1"' },
        })
      t.match(
        await ask(acme.host, acme.viewer.token),
        { status: 403, body: { detail: 'permission_denied' } },
        `${method} ${path} as viewer`,
      )
      // Questions that are asked by POST are answered: test/routes/read-only.test.ts.
      if (QUESTIONS.has(path)) continue
      t.match(await ask(frozen.host, frozen.admin.token), { status: 403, body: { detail: 'read_only' } }, `${method} ${path} read-only`)
    }
  }
})

t.test(
  'a record of another organization of the tenant is not there, and neither is its history; a deleted one keeps its own',
  async (t) => {
    const acme = await tenant()
    const { id } = (await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).data
    t.equal((await acme.admin.get(`/erp/parties/${id}/history`)).data.length, 1)
    await acme.admin.delete(`/erp/parties/${id}`, { 'if-match': '"1"' })
    t.equal((await acme.admin.get(`/erp/parties/${id}/history`)).data.length, 2)
    const switched = await acme.admin.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
    const elsewhere = acme.as(switched.data.access_token)
    t.equal((await elsewhere.get('/erp/parties')).status, 200)
    t.match(await elsewhere.get(`/erp/parties/${id}/history`), { status: 404, body: { detail: 'not_found' } })
  },
)
