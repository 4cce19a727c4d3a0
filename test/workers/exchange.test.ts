// Files in and out: looked at line by line, all or nothing, and not fooled by what files can be.
import { Client as Pg } from 'pg'
import { readSheet } from 'read-excel-file/node'
import t from 'tap'
import { products } from '../../domain/erp/products/index.ts'
import { writeWorkbook } from '../../domain/files/index.ts'
import { newId } from '../../domain/kernel/index.ts'
import { startWorkers } from '../../server/workers.ts'
import { carryImport } from '../../workers/exchanger.ts'
import { eventually, type TestTenant, testApp, times, upload } from '../support/app.ts'
import { quietLog, sharedFilesDirectory, testServices } from '../support/services.ts'
import { CONTENT_TYPES, workbookOf, zip } from '../support/zip.ts'

const FILES_DIRECTORY = sharedFilesDirectory()
const { tenant, runtime } = await testApp(t, { FILES_DIRECTORY })
const workers = await startWorkers(runtime, quietLog, ['relay', 'exchange'])
t.teardown(() => workers.stop())
await workers.assigned(20_000)

async function table(acme: TestTenant, bytes: Buffer | string): Promise<string> {
  const made = await upload(acme.admin, bytes, 'table.csv')
  if (made.status !== 201) throw new Error(made.text)
  return made.data.id
}
const ended = (acme: TestTenant, id: string, path = 'imports') =>
  eventually(
    async () => (await acme.admin.get(`/erp/${path}/${id}`)).data,
    ({ status }) => !['reading', 'applying', 'queued'].includes(status),
    60,
  )
async function read(acme: TestTenant, entity: string, bytes: Buffer | string, also: object = {}) {
  const answer = await acme.admin.post('/erp/imports', { entity, file_id: await table(acme, bytes), ...also })
  if (answer.status !== 201) throw new Error(answer.text)
  return ended(acme, answer.data.id)
}
const apply = async (acme: TestTenant, { id, version }: { id: string; version: number }) => {
  const answer = await acme.admin.post(`/erp/imports/${id}/apply`, { version })
  return answer.status === 200 ? ended(acme, id) : answer
}
const errorsOf = async (acme: TestTenant, { id }: { id: string }) =>
  (await acme.admin.get(`/erp/imports/${id}/errors`)).data.map((one: { line: number; errors: { column: string; rule: string }[] }) => [
    one.line,
    ...one.errors.map(({ column, rule }) => `${column} ${rule}`),
  ])
const count = async (acme: TestTenant, list: string) => (await acme.viewer.get(`${list}?limit=1&count=exact`)).body.pagination.total

async function shop() {
  const acme = await tenant()
  await acme.admin.post('/erp/uoms', { code: 'PCS', name: 'Piece', dimension: 'count' })
  await acme.admin.post('/erp/product-categories', { code: 'HERBS', name: 'Herbs' })
  await acme.admin.post('/erp/custom-fields', { entity: 'erp_product', code: 'pot', label: 'Pot', kind: 'number', filterable: true })
  return acme
}

t.test('a table becomes products: codes become ids, cells what the schema says, and nothing before it is applied', async (t) => {
  const acme = await shop()
  const csv =
    '\ufeffcode;Name;uom;category;lot_tracked;list_price;currency;custom.pot;remark\r\nBASIL;"Basil; ""sweet""";PCS;HERBS;yes;2.50;EUR;12.5;x\r\nMINT;Mint;PCS;;no;;;9;\r\n'
  const found = await read(acme, 'erp_product', csv)
  t.match(found, {
    status: 'ready',
    lines: 2,
    wrong: 0,
    taken: 0,
    mapping: { code: 'code', Name: 'name', uom: 'uom_id', category: 'category_id', 'custom.pot': 'custom.pot' },
  })
  t.equal(await count(acme, '/erp/products'), 0)
  t.match((await acme.admin.get(`/erp/imports/${found.id}/preview`)).data, [
    { line: 2, record: { code: 'BASIL' }, errors: null },
    { line: 3 },
  ])
  t.match(await apply(acme, found), { status: 'done', taken: 2 })
  const [basil] = (await acme.viewer.get('/erp/products?custom.pot=12.5')).data
  t.match(basil, { code: 'BASIL', name: 'Basil; "sweet"', lot_tracked: true, list_price: '2.5000', custom: { pot: 12.5 } })
  t.match((await acme.viewer.get(`/erp/products/${basil.id}/history`)).data, [{ action: 'insert', actor_id: acme.admin.userId }])
  t.match(await acme.admin.post(`/erp/imports/${found.id}/apply`, { version: 4 }), { status: 409 })
})

t.test('what is wrong is said line by line, and then nothing is taken', async (t) => {
  const acme = await shop()
  await acme.admin.post('/erp/products', { code: 'THERE', name: 'There', uom_id: (await acme.viewer.get('/erp/uoms')).data[0].id })
  const csv = [
    'code,name,uom,kind,list_price,custom.pot',
    'OK,Fine,PCS,stocked,1,1',
    ',No code,PCS,,,',
    'A,No unit,,,,',
    'B,Unit is not there,KG,,,',
    'C,Kind,PCS,sold,,',
    'D,Price,PCS,,"1,50",',
    'E,Pot,PCS,,,big',
    'THERE,Taken,PCS,,,',
    'OK,Twice,PCS,,,',
    'bad code,Form,PCS,,,',
  ].join('\n')
  const found = await read(acme, 'erp_product', csv)
  t.match(found, { status: 'ready', lines: 10, wrong: 9 })
  t.same(await errorsOf(acme, found), [
    [3, 'code required'],
    [4, 'uom_id required'],
    [5, 'uom_id reference'],
    [6, 'kind enum'],
    [7, 'list_price pattern'],
    [8, 'custom.pot type'],
    [9, 'code already_exists'],
    [10, 'code twice'],
    [11, 'code pattern'],
  ])
  const page = await acme.admin.get(`/erp/imports/${found.id}/errors?limit=4`)
  t.equal(page.data.length, 4)
  t.equal((await acme.admin.get(`/erp/imports/${found.id}/errors?limit=200&cursor=${page.body.pagination.next_cursor}`)).data.length, 5)
  t.match(await apply(acme, found), { status: 400, body: { detail: 'invalid_value' } })
  t.equal(await count(acme, '/erp/products'), 1)
  t.match(await acme.admin.post(`/erp/imports/${found.id}/cancel`, { version: found.version }), {
    status: 200,
    data: { status: 'cancelled' },
  })
})

t.test('a file changes what is there by its code, makes what is not, or says that it cannot', async (t) => {
  const acme = await shop()
  const uom_id = (await acme.viewer.get('/erp/uoms')).data[0].id
  const product = async (code: string) => (await acme.viewer.get(`/erp/products?code=${code}`)).data[0]
  for (const code of ['A', 'B', 'C'])
    await acme.admin.post('/erp/products', { code, name: `Old ${code}`, uom_id, list_price: '1', currency: 'EUR', custom: { pot: 7 } })

  const prices = await read(acme, 'erp_product', 'code,list_price,custom.pot\nA,2.5,\nB,,9\n', { mode: 'update' })
  t.match(prices, { status: 'ready', mode: 'update', lines: 2, wrong: 0 })
  t.match((await acme.admin.get(`/erp/imports/${prices.id}/preview`)).data, [{ line: 2, record_id: (await product('A')).id }, { line: 3 }])
  t.match(await apply(acme, prices), { status: 'done', taken: 2 })
  t.match(await product('A'), { name: 'Old A', list_price: '2.5000', custom: { pot: 7 }, version: 2 }, 'an empty cell changes nothing')
  t.match(await product('B'), { name: 'Old B', list_price: '1.0000', custom: { pot: 9 }, version: 2 })
  t.match((await acme.viewer.get(`/erp/products/${(await product('A')).id}/history`)).data[0], {
    action: 'update',
    actor_id: acme.admin.userId,
    diff: { list_price: [1, 2.5] },
  })

  const wrong = await read(acme, 'erp_product', 'code,list_price,custom.pot\nA,dear,\nD,1,\n,3,\nB,1,big\nA,1,\n', { mode: 'update' })
  t.match(wrong, { status: 'ready', lines: 5, wrong: 5 })
  t.same(await errorsOf(acme, wrong), [
    [2, 'list_price pattern'],
    [3, 'code not_found'],
    [4, 'code required'],
    [5, 'custom.pot type'],
    [6, 'code twice'],
  ])

  const both = await read(acme, 'erp_product', 'code,name,uom\nA,New A,PCS\nD,New D,PCS\n', { mode: 'upsert' })
  t.match(both, { status: 'ready', wrong: 0 })
  t.match(await apply(acme, both), { status: 'done', taken: 2 })
  t.match(await product('A'), { name: 'New A', list_price: '2.5000', version: 3 })
  t.match(await product('D'), { name: 'New D', version: 1 })

  // Who was quicker is not overwritten, and nothing of the file is taken.
  const late = await read(acme, 'erp_product', 'code,name\nA,Late A\nC,Late C\n', { mode: 'update' })
  const { id, version } = await product('C')
  t.equal((await acme.admin.patch(`/erp/products/${id}`, { name: 'Quick C', version })).status, 200)
  t.match(await apply(acme, late), { status: 'failed', taken: 0, failure: { detail: 'version_conflict', details: { ids: [id] } } })
  t.match(await product('A'), { name: 'New A' })
  t.match(await product('C'), { name: 'Quick C' })

  // What is written out is read in again.
  const out = (await acme.admin.post('/erp/exports', { entity: 'erp_product', format: 'csv' })).data
  const { file_id } = await ended(acme, out.id, 'exports')
  const csv = (await acme.admin.get(`/files/${file_id}/content`)).text.replaceAll('New ', 'Newer ')
  const again = await read(acme, 'erp_product', csv, { mode: 'update' })
  t.match(again, { status: 'ready', lines: 4, wrong: 0 })
  t.match(await apply(acme, again), { status: 'done', taken: 4 })
  t.match(await product('D'), { name: 'Newer D' })

  const refused = await acme.admin.post('/erp/imports', { entity: 'erp_product_variant', mode: 'update', file_id })
  t.match(refused, { status: 400, body: { detail: 'invalid_value' } })
})

t.test('twenty change the same records at once: one does, and the others are told', async (t) => {
  const acme = await shop()
  const uom_id = (await acme.viewer.get('/erp/uoms')).data[0].id
  for (const code of ['A', 'B', 'C']) await acme.admin.post('/erp/products', { code, name: code, uom_id })
  const seen = (await acme.viewer.get('/erp/products')).data as { id: string; version: number }[]
  const results = await Promise.allSettled(
    times(20, (n) =>
      runtime.services.planes.data.get('main')!.write(acme.scope, (tx) =>
        products.updateMany(
          tx,
          seen.map(({ id, version }) => ({ id, version, patch: { name: `By ${n}` } })),
        ),
      ),
    ),
  )
  t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const result of results) if (result.status === 'rejected') t.equal(result.reason.detail, 'version_conflict')
  const now = (await acme.viewer.get('/erp/products')).data as { name: string; version: number }[]
  t.equal(new Set(now.map(({ name }) => name)).size, 1, 'all by the same one')
  t.ok(now.every(({ version }) => version === 2))
})

t.test('a file changes places, whose rules hold for each', async (t) => {
  const acme = await shop()
  for (const code of ['ROOT', 'LEFT', 'RIGHT']) await acme.admin.post('/erp/locations', { code, name: code })
  const moved = await read(acme, 'erp_location', 'code,parent\nLEFT,ROOT\nRIGHT,LEFT\n', { mode: 'update' })
  t.match(await apply(acme, moved), { status: 'done', taken: 2 })
  const ring = await read(acme, 'erp_location', 'code,parent\nROOT,RIGHT\n', { mode: 'update' })
  t.match(await apply(acme, ring), { status: 'failed', failure: { detail: 'invalid_value' } })
  t.equal((await acme.viewer.get('/erp/locations?code=ROOT')).data[0].parent_id, null)
})

t.test('all or nothing: what comes in between undoes the whole, and says where', async (t) => {
  const acme = await shop()
  const csv = `code,name,uom\n${times(1500, (n) => `P${n},Product ${n},PCS`).join('\n')}`
  const found = await read(acme, 'erp_product', csv)
  t.match(found, { status: 'ready', lines: 1500 })
  const uom_id = (await acme.viewer.get('/erp/uoms')).data[0].id
  const other = await acme.admin.post('/erp/products', { code: 'P1400', name: 'Was quicker', uom_id })
  t.match(await apply(acme, found), { status: 'failed', taken: 0, failure: { detail: 'already_exists', lines: { from: 1002, to: 1501 } } })
  t.equal(await count(acme, '/erp/products'), 1)
  await acme.admin.delete(`/erp/products/${other.data.id}`, { 'if-match': '"1"' })
  const again = await read(acme, 'erp_product', csv)
  t.match(await apply(acme, again), { status: 'done', taken: 1500 })
  t.equal(await count(acme, '/erp/products'), 1500)
})

t.test('reading goes on where a worker died, and two that take in do so once', async (t) => {
  const acme = await shop()
  const file_id = await table(acme, `code,name,uom\n${times(3500, (n) => `R${n},Product ${n},PCS`).join('\n')}`)
  // Nobody is told of it: the job is carried by hand.
  const home = runtime.services.planes.data.get('main')!
  const id = newId()
  const { data: template } = await acme.admin.post('/erp/imports', { entity: 'erp_uom', file_id })
  const admin = new Pg({ connectionString: testServices().admin.data })
  await admin.connect()
  t.teardown(() => admin.end())
  await ended(acme, template.id)
  await admin.query(
    `insert into erp_import (id, tenant_id, organization_id, entity, file_id, encoding, requested_by)
     select $1, tenant_id, organization_id, 'erp_product', file_id, encoding, requested_by from erp_import where id = $2`,
    [id, template.id],
  )
  const job = {
    event_id: newId(),
    type: 'job.data-import',
    tenant_id: acme.id,
    entity_id: id,
    version: 1,
    occurred_at: new Date().toISOString(),
    data: { organization_id: acme.organizations[0]!.id, workspace_id: null, user_id: acme.admin.userId, kind: 'worker' },
    correlation_id: newId(),
  }
  const deps = { ...runtime.services, log: quietLog.root, keepExportsDays: 7 } as never
  await t.rejects(carryImport(deps, job as never, AbortSignal.abort()), { detail: 'overloaded' } as never)
  const half = (await acme.admin.get(`/erp/imports/${id}`)).data
  t.match(half, { status: 'reading', lines: 1000 })
  const never = new AbortController().signal
  await Promise.all([carryImport(deps, job as never, never)])
  t.match((await acme.admin.get(`/erp/imports/${id}`)).data, { status: 'ready', lines: 3500, wrong: 0 })
  await admin.query(`update erp_import set status = 'applying' where id = $1`, [id])
  await Promise.all([carryImport(deps, job as never, never), carryImport(deps, job as never, never)])
  t.match((await acme.admin.get(`/erp/imports/${id}`)).data, { status: 'done', taken: 3500 })
  t.equal(await count(acme, '/erp/products'), 3500)
  t.ok(home)
})

t.test('a mapping is remembered for the next file with the same columns', async (t) => {
  const acme = await shop()
  const file = (code: string) => `Item no.,Description,Unit\n${code},Basil,PCS\n`
  const mapping = { 'Item no.': 'code', Description: 'name', Unit: 'uom_id' }
  t.match(await read(acme, 'erp_product', file('A')), { status: 'failed', failure: { details: { rule: 'none' } } })
  const first = await read(acme, 'erp_product', file('A'), { mapping })
  t.match(await apply(acme, first), { status: 'done' })
  const second = await read(acme, 'erp_product', file('B'))
  t.match(second, { status: 'ready', mapping })
  const refuse = (body: object) => acme.admin.post('/erp/imports', { entity: 'erp_product', file_id: first.file_id, ...body })
  t.match(await refuse({ mapping: { Description: 'title' } }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await refuse({ entity: 'res_users' }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await refuse({ file_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.equal((await acme.operator.post('/erp/imports', { entity: 'erp_product', file_id: first.file_id })).status, 403)
  // Who may take in new records may not change those that are there by the same way.
  const maker = await acme.user('viewer')
  const role = await acme.admin.post('/rbac/roles', {
    code: 'maker',
    name: 'Maker',
    permissions: ['*.read', 'erp.import.*', 'erp.product.create'],
  })
  await acme.admin.post(`/users/${maker.userId}/roles`, { role: 'maker' })
  t.equal(role.status, 201)
  const asked = (mode: string) => maker.post('/erp/imports', { entity: 'erp_product', mode, file_id: first.file_id })
  t.equal((await asked('create')).status, 201)
  for (const mode of ['update', 'upsert'])
    t.match(await asked(mode), { status: 403, body: { error: { details: { permission: 'erp.product.update' } } } }, mode)
  t.match(await read(acme, 'erp_product', file('C'), { mapping: { Colour: 'name' } }), {
    status: 'failed',
    failure: { details: { rule: 'column' } },
  })
  const stranger = await tenant()
  t.match(await stranger.admin.post('/erp/imports', { entity: 'erp_product', file_id: first.file_id }), { status: 400 })
  t.equal((await stranger.admin.get(`/erp/imports/${first.id}/preview`)).status, 404)
})

t.test('files that are not what they should be are refused with what to do', async (t) => {
  const acme = await shop()
  const rule = async (bytes: Buffer | string, also: object = {}) => {
    const found = await read(acme, 'erp_uom', bytes, also)
    return found.status === 'failed' ? found.failure.details.rule : found.status
  }
  const latin = Buffer.from('code,name,dimension\nKG,Kilogramo pequeño,mass\n', 'latin1')
  t.equal(await rule(latin), 'encoding', 'rather than wrong letters')
  t.match(await read(acme, 'erp_uom', latin, { encoding: 'windows-1252' }), { status: 'ready', wrong: 0 })
  t.match(
    await read(acme, 'erp_uom', Buffer.from('\ufeffcode,name,dimension\nG,Gramo pequeño,mass\n', 'utf16le'), { encoding: 'utf-16le' }),
    { status: 'ready', wrong: 0 },
  )
  t.equal(await rule('code,name\n"A,open\n'), 'csv')
  t.equal(await rule('code,code\nA,B\n'), 'heading')
  t.equal(await rule(`${'x,'.repeat(250)}\n`), 'columns')
  t.equal(await rule(`code,name\nA,${'x'.repeat(20_000)}\n`), 'text')
  t.match(await apply(acme, await read(acme, 'erp_uom', 'code,name,dimension\n')), { status: 400 })
  t.equal(
    await rule(
      zip([
        { name: '[Content_Types].xml', bytes: CONTENT_TYPES },
        { name: 'xl/workbook.xml', bytes: Buffer.from('<no') },
      ]),
    ),
    'xlsx',
  )
  t.equal(await rule(workbookOf({ sheet: '<worksheet><sheetData><row><c><v>1</v>' })), 'xlsx', 'a sheet that breaks off')
})

t.test('workbooks in and out, and lists as they are filtered', async (t) => {
  const acme = await shop()
  const book = await writeWorkbook([
    ['code', 'name', 'dimension'],
    ['=1+1', 'Formula', 'count'],
    ['KG', 'Kilogram', 'mass'],
    [12, 'A number', 'count'],
  ])
  const found = await read(acme, 'erp_uom', book)
  t.match(found, { status: 'ready', lines: 3, wrong: 1 })
  t.same(await errorsOf(acme, found), [[2, 'code pattern']])
  await acme.admin.post('/erp/product-categories/bulk', {
    rows: [
      { code: 'A', name: '=HYPERLINK("http://evil")' },
      { code: 'B', name: '-2+3' },
      { code: 'C', name: 'Ünïcode, "quoted"' },
    ],
  })
  const ask = async (body: object) => {
    const answer = await acme.viewer.post('/erp/exports', { entity: 'erp_product_category', ...body })
    if (answer.status !== 201) return answer
    const done = await ended(acme, answer.data.id, 'exports')
    return { done, bytes: await runtime.services.files.open(acme.id, (await acme.admin.get(`/files/${done.file_id}`)).data) }
  }
  t.equal(((await ask({})) as { status: number }).status, 403, 'who may read may not yet take everything home')
  const out = async (body: object) => {
    const { data } = await acme.admin.post('/erp/exports', { entity: 'erp_product_category', ...body })
    const done = await ended(acme, data.id, 'exports')
    const chunks: Buffer[] = []
    for await (const chunk of await runtime.services.files.open(acme.id, (await acme.admin.get(`/files/${done.file_id}`)).data))
      chunks.push(chunk as Buffer)
    return { done, bytes: Buffer.concat(chunks) }
  }
  const csv = await out({ query: { sort: 'code' } })
  t.match(csv.done, { status: 'done', records: 4 })
  const lines = csv.bytes.toString().split('\r\n')
  t.match(lines[0], /^code,name,/)
  t.match(lines[1], /^A,"'=HYPERLINK/, 'a formula is text')
  t.match(lines[2], /^B,'-2\+3,/)
  t.match(lines[3], /^C,"Ünïcode, ""quoted""",/)
  t.match((await out({ query: { code: 'B' } })).done, { records: 1 })
  const xlsx = await out({ format: 'xlsx', query: { sort: 'code', code: 'A,C' } })
  t.match(await readSheet(xlsx.bytes), [
    ['code', 'name'],
    ['A', '=HYPERLINK("http://evil")'],
    ['C', 'Ünïcode, "quoted"'],
  ])
  t.match(await acme.admin.post('/erp/exports', { entity: 'erp_product_category', query: { colour: 'red' } }), {
    status: 400,
    body: { detail: 'invalid_query' },
  })
  t.match(await acme.admin.post('/erp/exports', { entity: 'erp_stock_move' }), { status: 400 })
})

t.test('what is kept under the tenant’s key is so on its way in, too', async (t) => {
  const acme = await tenant()
  const party = (await acme.admin.post('/erp/parties', { code: 'FLORA', name: 'Flora', roles: ['client'] })).data
  const found = await read(acme, 'erp_party_contact', 'party,name,email\nFLORA,Ana,ana-secret@flora.example\n')
  t.match(found, { status: 'ready', wrong: 0 })
  const admin = new Pg({ connectionString: testServices().admin.data })
  await admin.connect()
  t.teardown(() => admin.end())
  const { rows } = await admin.query('select record::text from erp_import_line where import_id = $1', [found.id])
  t.equal(rows.length, 1)
  t.notMatch(rows[0].record, /ana/i)
  t.match(await apply(acme, found), { status: 'done' })
  t.match((await acme.viewer.get(`/erp/party-contacts?email=ana-secret@flora.example`)).data, [{ party_id: party.id, name: 'Ana' }])
})

t.test('an import that the plan had no room for is applied again once it has; one that failed otherwise is not', async (t) => {
  const root = (await tenant({ kind: 'platform' })).admin
  const plan = `tight-${newId().slice(-8)}`
  const terms = { name: 'Tight', price: '1', currency: 'EUR', interval: 'month', trial_days: 30, sort: 99, listed: false }
  const made = await root.put(`/superadmin/plans/${plan}`, { ...terms, modules: ['erp.parties'], limits: { records: 3 } })
  t.equal(made.status, 201, made.text)
  const acme = await tenant({ plan })
  const lines = times(5, (n) => `P${n};Party ${n};client`)
  const found = await read(acme, 'erp_party', ['code;name;roles', ...lines].join('\n'))
  t.match(found, { status: 'ready', wrong: 0 })
  const failed = await apply(acme, found)
  t.match(failed, { status: 'failed', failure: { detail: 'plan_limit' } })
  t.match(await apply(acme, failed), { status: 'failed', failure: { detail: 'plan_limit' } }, 'there is no room yet')
  t.equal((await root.put(`/superadmin/tenants/${acme.id}/plan`, { plan: 'enterprise' })).status, 200)
  const now = (await acme.admin.get(`/erp/imports/${found.id}`)).data
  t.match(await apply(acme, now), { status: 'done', taken: 5, failure: null })
  const broken = await read(acme, 'erp_party', 'wind;rain\n1;2\n')
  t.match(broken, { status: 'failed' })
  t.match(await acme.admin.post(`/erp/imports/${broken.id}/apply`, { version: broken.version }), {
    status: 409,
    body: { detail: 'invalid_transition' },
  })
})
