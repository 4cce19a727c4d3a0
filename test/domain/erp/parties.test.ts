// Parties: kept private, found again, made one, above and below one another.
import { Client } from 'pg'
import t from 'tap'
import { PARTY_REFERENCES } from '../../../domain/erp/parties/index.ts'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue } from '../../support/erp.ts'
import { testServices } from '../../support/services.ts'

const { tenant } = await testApp(t)
const owner = new Client({ connectionString: testServices().admin.data })
await owner.connect()
t.teardown(() => owner.end())

let serial = 0
const party = async (acme: TestTenant, extra: object = {}) =>
  (await acme.admin.post('/erp/parties', { code: `PA${++serial}`, name: `Party ${newId()}`, roles: ['supplier', 'client'], ...extra })).data
const ids = (list: { id: string }[]) => list.map(({ id }) => id)

t.test('mail addresses, telephones and streets are in no table that can be read', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const { id: party_id } = await party(acme)
  const secret = 'Ana.Flores@garden.example'
  const body = { party_id, name: 'Ana', role: 'Buyer', email: secret, phone: '+34 600-123 456' }
  const made = await acme.admin.post('/erp/party-contacts', body, { 'idempotency-key': 'contact' })
  t.match(made, { status: 201, data: body })
  t.match(await acme.admin.post('/erp/party-contacts', body, { 'idempotency-key': 'contact' }), { status: 201, data: body }, 'replayed')
  const street = (await acme.admin.post('/erp/party-addresses', { party_id, kind: 'office', lines: 'Calle de la Luna 77', country: 'ES' }))
    .data
  t.equal(street.lines, 'Calle de la Luna 77')
  for (const table of ['erp_party_contact', 'erp_party_address', 'plane.audit_events', 'plane.event_outbox', 'plane.idempotency_keys']) {
    const { rows } = await owner.query(`select r::text as text from ${table} r where tenant_id = $1`, [acme.id])
    t.ok(rows.length > 0, table)
    for (const word of ['garden.example', '600', 'Luna', Buffer.from(secret).toString('hex')].filter((word) => word !== '600'))
      t.notOk(
        rows.some(({ text }) => text.toLowerCase().includes(word.toLowerCase())),
        `${table} says nothing of ${word}`,
      )
  }
  const { id } = made.data
  const find = async (query: string, one = acme) => ids((await one.viewer.get(`/erp/party-contacts?${query}`)).data)
  t.same(await find(`email=${encodeURIComponent(' ana.flores@GARDEN.example ')}`), [id], 'found whole, whatever the case')
  t.same(await find('phone=0034600123456'), [id], 'and however it is written')
  t.same(await find('email=ana@garden.example'), [])
  t.same(await find(`email=${encodeURIComponent(secret)}`, globex), [], 'another tenant has another key')
  t.match(await acme.viewer.get('/erp/party-contacts?email.like=ana'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.viewer.get(`/erp/party-contacts/${id}`), { data: body })
  t.match((await acme.viewer.get('/erp/party-contacts', { accept: 'text/csv' })).text, /Ana\.Flores@garden\.example/)
  const changed = await acme.admin.patch(`/erp/party-contacts/${id}`, { email: 'new@garden.example', phone: null, version: 1 })
  t.match(changed, { status: 200, data: { email: 'new@garden.example', phone: null } })
  t.same(await find(`email=${encodeURIComponent(secret)}`), [])
  t.same(await find('email=new@garden.example'), [id])
  t.same(await find('phone.null=true'), [id])
  t.match((await acme.viewer.get(`/erp/party-contacts/${id}/history`)).data[0].diff, { email: ['***', '***'] })
  t.match(await acme.admin.post('/erp/party-contacts', { party_id, name: 'X', email: 'no address' }), { status: 400 })
  const bulk = await acme.admin.post('/erp/party-contacts/bulk', {
    rows: times(3, (n) => ({ party_id, name: `N${n}`, email: `n${n}@x.example` })),
  })
  t.same(
    bulk.data.map((c: { email: string }) => c.email),
    ['n0@x.example', 'n1@x.example', 'n2@x.example'],
  )
})

t.test('who may be the same: by tax number, mail, telephone, a name that is like it', async (t) => {
  const acme = await tenant()
  const green = await party(acme, { name: 'Green Growers Limited', tax_id: 'ES-B 1234.5678' })
  const other = await party(acme, { name: 'Blue Ocean Shipping' })
  await acme.admin.post('/erp/party-contacts', { party_id: green.id, name: 'Ana', email: 'ana@green.example', phone: '+34600111222' })
  const ask = async (description: object) => (await acme.admin.post('/erp/parties/duplicates', description)).data
  t.match(await ask({ tax_id: 'esb12345678' }), [{ id: green.id, reasons: ['tax_id'] }])
  t.match(await ask({ email: 'ANA@green.example' }), [{ id: green.id, reasons: ['email'] }])
  t.match(await ask({ phone: '0034 600 111 222' }), [{ id: green.id, reasons: ['phone'] }])
  const [found] = await ask({ name: 'Green Grower Ltd' })
  t.match(found, { id: green.id, reasons: ['name'] })
  t.ok(found.likeness > 0.4 && found.likeness < 1)
  t.same(await ask({ name: 'Somebody Else Entirely' }), [])
  t.match(await acme.admin.post('/erp/parties/duplicates', {}), { status: 400, body: { detail: 'invalid_body' } })
  const twin = await party(acme, { name: 'Green Growers Ltd', tax_id: 'B12345678' })
  await acme.admin.post('/erp/party-contacts', { party_id: twin.id, name: 'A', email: 'ana@green.example' })
  t.match((await acme.viewer.get(`/erp/parties/${twin.id}/duplicates`)).data, [{ id: green.id, reasons: ['email', 'name'] }])
  t.same((await acme.viewer.get(`/erp/parties/${other.id}/duplicates`)).data, [])
  t.equal((await acme.viewer.get(`/erp/parties/${newId()}/duplicates`)).status, 404)
  const stranger = await tenant()
  t.same((await stranger.admin.post('/erp/parties/duplicates', { email: 'ana@green.example', name: 'Green Growers' })).data, [])
})

t.test('two become one: what referred to one refers to the other, history stays', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const gone = await party(acme, { name: 'Written twice', roles: ['supplier'], tax_id: 'T1', credit_hold: true })
  const stays = await party(acme, { name: 'Written once', roles: ['client'] })
  const child = await party(acme, { parent_id: gone.id })
  const contact = (await acme.admin.post('/erp/party-contacts', { party_id: gone.id, name: 'Ana', email: 'a@b.example' })).data
  const both = { product_id: c.product, price: '1' }
  await acme.admin.post('/erp/supplier-products', { ...both, supplier_id: gone.id })
  const kept = (await acme.admin.post('/erp/supplier-products', { ...both, supplier_id: stays.id, price: '2' })).data
  const order = await acme.operator.post('/erp/purchase-orders', {
    supplier_id: gone.id,
    currency: 'EUR',
    lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }],
  })
  const merge = (body: object, client = acme.admin) => client.post(`/erp/parties/${gone.id}/merge`, body)
  t.match(await merge({ into: stays.id }), { status: 400, body: { detail: 'version_required' } })
  t.match(await merge({ into: stays.id, version: 7 }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await merge({ into: gone.id, version: 1 }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await merge({ into: newId(), version: 1 }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await merge({ into: stays.id, version: 1 }, acme.viewer), { status: 403 })
  t.match(await merge({ into: stays.id, version: 1 }), {
    status: 200,
    data: { id: stays.id, roles: ['client', 'supplier'], tax_id: 'T1', credit_hold: true },
  })
  t.equal((await acme.admin.get(`/erp/parties/${gone.id}`)).status, 404)
  t.equal((await acme.admin.get(`/erp/parties/${child.id}`)).data.parent_id, stays.id)
  t.match((await acme.admin.get(`/erp/party-contacts/${contact.id}`)).data, { party_id: stays.id, email: 'a@b.example' })
  t.equal((await acme.admin.get(`/erp/purchase-orders/${order.data.id}`)).data.supplier_id, stays.id)
  t.match(
    (await acme.admin.get(`/erp/supplier-products?supplier_id=${stays.id}`)).data,
    [{ id: kept.id, price: '2.0000' }],
    'its own price stays',
  )
  const history = (await acme.admin.get(`/erp/parties/${gone.id}/history`)).data
  t.match(history[0].diff, { merged_into: [null, stays.id] })
  t.match(await acme.admin.post(`/erp/parties/${gone.id}/recover`), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(await merge({ into: stays.id, version: 1 }), { status: 404 }, 'once')
})

t.test('every reference to a party is moved: the list is compared with the database', async (t) => {
  const { rows } = await owner.query(`
    select c.conrelid::regclass::text as table, a.attname as column from pg_constraint c
    join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.attname <> 'tenant_id'
    where c.contype = 'f' and c.confrelid = 'public.erp_party'::regclass and c.conrelid::regclass::text not like 't\\_%' and a.attname <> 'merged_into'
      and c.connamespace = 'public'::regnamespace order by 1, 2`)
  t.same(rows.map((r) => `${r.table}.${r.column}`).sort(), PARTY_REFERENCES.map((r) => r.join('.')).sort())
})

t.test('orders race a merge: none is left with the party that is gone', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  for (let round = 0; round < 3; round++) {
    const [gone, stays] = [await party(acme), await party(acme)]
    const order = () =>
      acme.operator.post('/erp/purchase-orders', {
        supplier_id: gone.id,
        currency: 'EUR',
        lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }],
      })
    const orders = times(20, order)
    const merged = await acme.admin.post(`/erp/parties/${gone.id}/merge`, { into: stays.id, version: 1 })
    const answers = await Promise.all(orders)
    t.equal(merged.status, 200)
    t.same(
      Object.keys(tally(answers)).filter((status) => !['201', '400'].includes(status)),
      [],
    )
    for (const { status, body } of answers) if (status === 400) t.equal(body.detail, 'invalid_reference')
    t.same((await acme.admin.get(`/erp/purchase-orders?supplier_id=${gone.id}`)).data, [])
    t.equal((await acme.admin.get(`/erp/purchase-orders?supplier_id=${stays.id}&limit=200`)).data.length, tally(answers)[201] ?? 0)
  }
})

t.test('nobody is above himself, also when twenty try at once', async (t) => {
  const acme = await tenant()
  const ring = await Promise.all(times(4, () => party(acme)))
  const under = (child: { id: string }, parent: { id: string }, version: number) =>
    acme.admin.patch(`/erp/parties/${child.id}`, { parent_id: parent.id, version })
  t.match(await under(ring[0]!, ring[0]!, 1), { status: 400, body: { detail: 'invalid_value', error: { details: { rule: 'acyclic' } } } })
  const answers = await Promise.all(times(20, (n) => under(ring[n % 4]!, ring[(n + 1) % 4]!, 1)))
  t.equal(tally(answers)[200], 3, 'the last one would close the ring')
  t.match(await under(ring[0]!, { id: newId() }, 1), { status: 400 })
})

t.test('who is needed is not deleted, and the answer says by what', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const remove = (id: string, version = 1) => acme.admin.delete(`/erp/parties/${id}`, { 'if-match': `"${version}"` })
  const parent = await party(acme)
  const child = await party(acme, { parent_id: parent.id })
  t.match(await remove(parent.id), {
    status: 409,
    body: { detail: 'in_use', error: { details: { by: [{ entity: 'erp_party', ids: [child.id] }] } } },
  })
  t.equal((await remove(child.id)).status, 204)
  t.equal((await remove(parent.id)).status, 204)
  // Deleting races ordering: who comes first is right, and no open order names somebody who is gone.
  const supplier = await party(acme)
  const orders = times(10, () =>
    acme.operator.post('/erp/purchase-orders', {
      supplier_id: supplier.id,
      currency: 'EUR',
      lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }],
    }),
  )
  const removed = await remove(supplier.id)
  const answers = tally(await Promise.all(orders))
  if (removed.status === 204) t.notOk(answers[201], 'gone before the first order')
  else t.match(removed, { status: 409, body: { detail: 'in_use' } })
})
