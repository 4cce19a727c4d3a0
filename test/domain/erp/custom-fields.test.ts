// Fields of a company's own: declared, held to, and found by.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { catalogue } from '../../support/erp.ts'

const { tenant } = await testApp(t)
const refused = (rule: string) => ({ status: 400, body: { detail: 'invalid_value', error: { details: { errors: [{ rule }] } } } })
const field = (acme: TestTenant, code: string, kind: string, also: object = {}) =>
  acme.admin.post('/erp/custom-fields', { entity: 'erp_product', code, label: code, kind, ...also })

async function nursery() {
  const acme = await tenant()
  const c = await catalogue(acme)
  let serial = 0
  const make = (custom?: object) =>
    acme.admin.post('/erp/products', { code: `C-${++serial}`, name: 'Plant', uom_id: c.uom, ...(custom ? { custom } : {}) })
  return { acme, c, make }
}

t.test('what is declared may stand there, and nothing else', async (t) => {
  const { acme, make } = await nursery()
  t.match(await make({ pot: '12' }), refused('additionalProperties'))
  for (const [code, kind, also] of [
    ['pot', 'number', { minimum: 1, maximum: 99.5, description: 'Centimetres' }],
    ['shelves', 'integer', {}],
    ['colour', 'choice', { choices: ['red', 'white'] }],
    ['latin', 'text', { max_length: 20 }],
    ['sown', 'date', {}],
    ['organic', 'boolean', {}],
  ] as const)
    t.equal((await field(acme, code, kind, also)).status, 201)
  const all = { pot: 12.5, shelves: 3, colour: 'red', latin: 'Rosa', sown: '2026-03-01', organic: true }
  const made = await make(all)
  t.match(made, { status: 201, data: { custom: all } })
  for (const [custom, rule] of [
    [{ pot: '12' }, 'type'],
    [{ pot: 0 }, 'minimum'],
    [{ pot: 100 }, 'maximum'],
    [{ shelves: 1.5 }, 'type'],
    [{ colour: 'blue' }, 'enum'],
    [{ latin: 'x'.repeat(21) }, 'maxLength'],
    [{ sown: '2026-02-30' }, 'format'],
    [{ organic: 'yes' }, 'type'],
    [{ colours: 'red' }, 'additionalProperties'],
  ] as const)
    t.match(await make(custom), refused(rule), JSON.stringify(custom))
  t.match(await make([] as never), { status: 400, body: { detail: 'invalid_body' } })
  const { id } = made.data
  const change = (version: number, custom: object) => acme.admin.patch(`/erp/products/${id}`, { version, custom })
  t.match(await change(1, { pot: 14, colour: null }), { status: 200, data: { custom: { pot: 14, latin: 'Rosa' } } })
  t.notOk('colour' in (await acme.viewer.get(`/erp/products/${id}`)).data.custom, 'null takes it away, what is not named stays')
  t.match(await change(2, { pot: 0 }), refused('minimum'))
  t.match(await change(1, { pot: 1 }), { status: 409, body: { detail: 'version_conflict' } })
  const schema = (await acme.viewer.get('/custom-fields')).data
  t.match(schema.erp_product, {
    type: 'object',
    properties: {
      pot: { type: 'number', title: 'pot', minimum: 1, maximum: 99.5, description: 'Centimetres' },
      colour: { enum: ['red', 'white'] },
    },
  })
  t.same(schema.erp_party.properties, {})
  const history = (await acme.viewer.get(`/erp/products/${id}/history`)).data
  t.match(history[0].diff, { custom: [{ pot: 12.5 }, { pot: 14 }] })
})

t.test('what is required is asked of what is made from then on', async (t) => {
  const { acme, make } = await nursery()
  const old = await make()
  t.equal((await field(acme, 'passport', 'text', { required: true })).status, 201)
  t.match(await make(), refused('required'))
  t.equal((await make({ passport: 'NL-1' })).status, 201)
  t.equal((await acme.admin.patch(`/erp/products/${old.data.id}`, { version: 1, name: 'Other' })).status, 200)
  t.match(await acme.admin.patch(`/erp/products/${old.data.id}`, { version: 2, custom: {} }), refused('required'))
  const rows = times(3, (n) => ({ code: `B${n}`, name: 'B', uom_id: old.data.uom_id, custom: n === 1 ? {} : { passport: 'X' } }))
  t.match(await acme.admin.post('/erp/products/bulk', { rows }), {
    status: 400,
    body: { error: { details: { errors: [{ path: '/rows/1/custom', rule: 'required' }] } } },
  })
})

t.test('records are found and sorted by what was switched on, also those from before', async (t) => {
  const { acme, make } = await nursery()
  await field(acme, 'pot', 'number')
  await field(acme, 'colour', 'text', { filterable: true })
  for (const [pot, colour] of [
    [9, 'red'],
    [12, 'white'],
    [12, 'red'],
    [31, 'blue'],
    [100, 'Reddish'],
  ])
    await make({ pot, colour })
  await make()
  const ask = async (query: string) => {
    const answer = await acme.viewer.get(`/erp/products?${query}`)
    return answer.status === 200 ? answer.data.map((row: { custom: { pot?: number } }) => row.custom.pot ?? null) : answer.body.detail
  }
  t.same((await ask('custom.colour=red')).sort(), [12, 9])
  t.same((await ask('custom.colour=red,blue')).length, 3)
  t.same((await ask('custom.colour.like=RED')).length, 3)
  t.same((await ask('custom.colour.null=true&code.like=C-')).length, 1)
  t.same((await ask('custom.colour.ne=red')).length, 3)
  t.equal(await ask('custom.pot=12'), 'invalid_query', 'it is not switched on')
  const [pot] = (await acme.admin.get('/erp/custom-fields?code=pot')).data
  t.equal((await acme.admin.patch(`/erp/custom-fields/${pot.id}`, { version: 1, filterable: true })).status, 200)
  t.same(await ask('sort=custom.pot'), [9, 12, 12, 31, 100], 'numbers are numbers; what has none is not in this list')
  t.same(await ask('sort=-custom.pot&custom.colour=red'), [12, 9])
  t.same((await ask('custom.pot.gte=12&custom.pot.lt=100')).length, 3)
  t.same((await ask('custom.pot=12&custom.colour=white')).length, 1)
  for (const query of [
    'custom.pot=many',
    'custom.size=1',
    'sort=custom.size',
    'sort=custom.pot,code',
    'custom.pot.near=1',
    'custom.pot.like=1',
  ])
    t.equal(await ask(query), 'invalid_query', query)
  const pages: number[] = []
  for (let cursor = ''; ; ) {
    const page = await acme.viewer.get(`/erp/products?sort=custom.pot&limit=2&count=exact${cursor && `&cursor=${cursor}`}`)
    pages.push(...page.data.map((row: { custom: { pot: number } }) => row.custom.pot))
    if (!page.body.pagination.next_cursor) break
    cursor = page.body.pagination.next_cursor
  }
  t.same(pages, [9, 12, 12, 31, 100])
  const { next_cursor } = (await acme.viewer.get('/erp/products?custom.colour=red&limit=1')).body.pagination
  t.match(
    await acme.viewer.get(`/erp/products?custom.colour=white&limit=1&cursor=${next_cursor}`),
    { status: 400, body: { detail: 'invalid_cursor' } },
    'a place in one list is none in another',
  )
  const [first] = (await acme.viewer.get('/erp/products?custom.pot=9')).data
  await acme.admin.patch(`/erp/products/${first.id}`, { version: 1, custom: { pot: 10 } })
  t.same([await ask('custom.pot=9'), await ask('custom.pot=10')], [[], [10]], 'what changed is found by what it is now')
  await acme.admin.delete(`/erp/products/${first.id}`, { 'if-match': '"2"' })
  t.same(await ask('custom.pot=10'), [])
  t.equal((await acme.admin.delete(`/erp/custom-fields/${pot.id}`, { 'if-match': '"2"' })).status, 204)
  t.equal(await ask('custom.pot=12'), 'invalid_query')
  t.equal((await acme.admin.post(`/erp/custom-fields/${pot.id}/recover`)).status, 200)
  t.same((await ask('custom.pot=12')).length, 2)
})

t.test('switching an index on races those who write: each record is found', async (t) => {
  const { acme, make } = await nursery()
  const pot = (await field(acme, 'pot', 'integer')).data
  const [, ...made] = await Promise.all([
    acme.admin.patch(`/erp/custom-fields/${pot.id}`, { version: 1, filterable: true }),
    ...times(19, (n) => make({ pot: n })),
  ])
  t.ok(made.every(({ status }) => status === 201))
  t.same((await acme.viewer.get('/erp/products?sort=custom.pot&limit=100')).data.length, 19)
})

t.test('a declaration that makes no sense is refused; nobody else has it', async (t) => {
  const { acme, make } = await nursery()
  const bad = (rule: string) => ({ status: 400, body: { detail: 'invalid_value', error: { details: { rule } } } })
  t.match(await field(acme, 'a', 'choice'), bad('choice'))
  t.match(await field(acme, 'a', 'text', { choices: ['x'] }), bad('choice'))
  t.match(await field(acme, 'a', 'text', { entity: 'erp_purchase_order' }), bad('entity'))
  t.match(await field(acme, 'a', 'text', { entity: 'res_users' }), bad('entity'))
  t.match(await field(acme, 'a', 'text', { filterable: true, max_length: 900 }), bad('filterable'))
  t.match(await field(acme, 'a', 'number', { minimum: 5, maximum: 1 }), bad('range'))
  for (const code of ['A', '1a', 'a-b', 'a"b', '', 'x'.repeat(41)])
    t.match(await field(acme, code, 'text'), { status: 400, body: { detail: 'invalid_body' } })
  const made = (await field(acme, 'a', 'text')).data
  t.match(await field(acme, 'a', 'text'), { status: 409, body: { detail: 'already_exists' } })
  t.match(await acme.admin.patch(`/erp/custom-fields/${made.id}`, { version: 1, kind: 'number' }), bad('fixed'))
  t.equal((await acme.operator.post('/erp/custom-fields', { entity: 'erp_product', code: 'b', label: 'b', kind: 'text' })).status, 403)
  t.equal((await make({ a: 'x' })).status, 201)
  const globex = await nursery()
  t.match(await globex.make({ a: 'x' }), refused('additionalProperties'))
  t.equal((await globex.acme.admin.get(`/erp/custom-fields/${made.id}`)).status, 404)
  t.match(await acme.admin.get(`/erp/custom-fields/${newId()}`), { status: 404 })
})
