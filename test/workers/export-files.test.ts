// Files of exports hold records: they belong to the user who asked, ask for the right to read the records, and end.
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { Client as Pg } from 'pg'
import t from 'tap'
import { startWorkers } from '../../server/workers.ts'
import { removeExpiredFiles } from '../../workers/expired-files.ts'
import { type Client, eventually, type TestTenant, tally, testApp, times, upload } from '../support/app.ts'
import { quietLog, sharedFilesDirectory, testServices } from '../support/services.ts'

const FILES_DIRECTORY = sharedFilesDirectory()
const { tenant, runtime } = await testApp(t, { FILES_DIRECTORY })
const workers = await startWorkers(runtime, quietLog, ['relay', 'exchange'])
t.teardown(() => workers.stop())
await workers.assigned(20_000)
const admin = new Pg({ connectionString: testServices().admin.data })
await admin.connect()
t.teardown(() => admin.end())

const SECRET = 'ana-secret@flora.example'

async function withContacts(): Promise<TestTenant> {
  const acme = await tenant()
  const party = (await acme.admin.post('/erp/parties', { code: 'FLORA', name: 'Flora', roles: ['client'] })).data
  await acme.admin.post('/erp/party-contacts', { party_id: party.id, name: 'Ana', email: SECRET })
  return acme
}
/** A user with these permissions and no others. */
async function userWith(acme: TestTenant, permissions: string[]): Promise<Client> {
  const user = await acme.user('viewer')
  const code = `r-${user.userId.slice(-8)}`
  await acme.admin.post('/rbac/roles', { code, name: code, permissions })
  const [viewer] = (await acme.admin.get(`/users/${user.userId}/roles`)).data
  await acme.admin.post(`/users/${user.userId}/roles`, { role: code })
  await acme.admin.delete(`/users/${user.userId}/roles/${viewer.id}`)
  return user
}
async function exported(acme: TestTenant, by: Client = acme.admin, entity = 'erp_party_contact') {
  const { data } = await by.post('/erp/exports', { entity })
  const done = await eventually(
    async () => (await by.get(`/erp/exports/${data.id}`)).data,
    ({ status }) => status !== 'queued',
    60,
  )
  if (done.status !== 'done') throw new Error(JSON.stringify(done))
  return done as { id: string; file_id: string; expires_at: string }
}
const names = (client: Client, where: string) =>
  client.get(where).then(({ data }) => (data as { name?: string; entity?: string }[]).map(({ name, entity }) => name ?? entity))

t.test('F7: an export of contacts is seen and downloaded by those alone who may read contacts', async (t) => {
  const acme = await withContacts()
  const { id, file_id } = await exported(acme)
  const clerk = await userWith(acme, ['file.object.*', 'erp.export.read', 'erp.party.read'])
  t.equal((await clerk.get('/erp/party-contacts')).status, 403)
  t.same(await names(clerk, '/files'), [])
  t.same(await names(clerk, '/files?name=erp_party_contact.csv'), [])
  t.same(await names(clerk, '/erp/exports'), [])
  for (const where of [
    `/files/${file_id}`,
    `/files/${file_id}/content`,
    `/files/${file_id}/preview`,
    `/erp/exports/${id}`,
    `/erp/exports/${id}/history`,
  ])
    t.equal((await clerk.get(where)).status, 404, where)
  t.equal((await clerk.delete(`/files/${file_id}`, { 'if-match': '"1"' })).status, 404)
  const party = (await acme.admin.get('/erp/parties')).data[0].id
  t.equal((await clerk.post(`/files/${file_id}/links`, { entity: 'erp_party', entity_id: party })).status, 404)
  await acme.admin.post(`/files/${file_id}/links`, { entity: 'erp_party', entity_id: party })
  t.same(await names(clerk, `/files/attached?entity=erp_party&entity_id=${party}`), [], 'attached to what the user may read')

  const reader = await userWith(acme, ['file.object.read', 'erp.export.read', 'erp.party_contact.read'])
  t.same(await names(reader, '/files'), ['erp_party_contact.csv'])
  t.same(await names(reader, '/erp/exports'), ['erp_party_contact'])
  t.match((await reader.get(`/files/${file_id}/content`)).text, SECRET)
  const stranger = await withContacts()
  const { data } = await acme.admin.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
  for (const other of [stranger.admin, acme.as(data.access_token)]) {
    for (const where of [`/files/${file_id}`, `/files/${file_id}/content`, `/erp/exports/${id}`, `/erp/exports/${id}/history`])
      t.equal((await other.get(where)).status, 404, `${where} of another tenant or organization`)
    t.same(await names(other, '/files'), [])
  }
})

t.test('F7: the user who asked for an export keeps seeing it, and downloads it while the records may be read', async (t) => {
  const acme = await withContacts()
  const user = await userWith(acme, ['file.object.read', 'erp.export.*', 'erp.party_contact.read'])
  const { id, file_id } = await exported(acme, user)
  t.match((await user.get(`/files/${file_id}/content`)).text, SECRET)
  await acme.admin.post(`/users/${user.userId}/overrides`, {
    permission: 'erp.party_contact.read',
    effect: 'deny',
    reason: 'left the team',
  })
  t.equal((await user.get(`/erp/exports/${id}`)).status, 200)
  t.equal((await user.get(`/files/${file_id}`)).status, 200)
  t.match(await user.get(`/files/${file_id}/content`), {
    status: 403,
    body: { error: { details: { permission: 'erp.party_contact.read' } } },
  })
  t.equal((await user.post('/erp/exports', { entity: 'erp_party_contact' })).status, 403)
})

t.test('F7: the file of an export is encrypted in the store, and read in ranges', async (t) => {
  const acme = await withContacts()
  const party = (await acme.admin.get('/erp/parties')).data[0].id
  const rows = times(3_000, (n) => ({ party_id: party, name: `Contact ${n}`, email: `c${n}@flora.example` }))
  for (const first of [0, 1_000, 2_000]) await acme.admin.post('/erp/party-contacts/bulk', { rows: rows.slice(first, first + 1_000) })
  const { file_id } = await exported(acme)
  const stored = readdirSync(FILES_DIRECTORY, { recursive: true, withFileTypes: true }).find((entry) => entry.name === file_id)!
  const bytes = readFileSync(path.join(stored.parentPath, stored.name))
  t.notOk(bytes.includes('flora.example'), 'no address is in the store')
  const whole = (await acme.admin.get(`/files/${file_id}/content`)).text
  t.match(whole, SECRET)
  t.ok(whole.length > 2 * 64 * 1024, 'more than one chunk')
  for (const [from, to] of [
    [0, 0],
    [65_530, 65_545],
    [65_536, 131_071],
    [100, whole.length - 1],
    [131_072, 131_080],
  ])
    t.equal(
      (await acme.admin.get(`/files/${file_id}/content`, { range: `bytes=${from}-${to}` })).text,
      whole.slice(from, to! + 1),
      `${from}-${to}`,
    )
  t.equal((await acme.admin.get(`/files/${file_id}/content`, { range: 'bytes=-20' })).text, whole.slice(-20))
})

t.test('F7: the file of an export ends after a week, with its bytes; twenty who download it meanwhile get all or 404', async (t) => {
  const acme = await withContacts()
  const { file_id, expires_at } = await exported(acme)
  const days = (Date.parse(expires_at) - Date.now()) / 86_400_000
  t.ok(days > 6.9 && days < 7.1, `${days} days`)
  const content = () => acme.admin.get(`/files/${file_id}/content`)
  const whole = (await content()).text
  const kept = await upload(acme.admin, 'my own', 'own.txt')
  const other = (await exported(acme)).file_id
  const remove = async () => {
    const { planes, tenants, files } = runtime.services
    await removeExpiredFiles({ planes, tenants, files, log: quietLog.root }, [(await tenants.byId(acme.id))!])
  }
  await remove()
  t.equal((await content()).status, 200, 'before its time')
  await admin.query(`update file_object set expires_at = now() + interval '300 ms' where id = $1`, [file_id])
  const downloads = times(20, async (n) => {
    await new Promise((resolve) => setTimeout(resolve, n * 30))
    return content()
  })
  const removing = times(4, async (n) => {
    await new Promise((resolve) => setTimeout(resolve, 250 + n * 60))
    await remove()
  })
  const answers = await Promise.all(downloads)
  await Promise.all(removing)
  t.ok(
    answers.every(({ status, text }) => status === 404 || (status === 200 && text === whole)),
    JSON.stringify(tally(answers)),
  )
  t.match(tally(answers), { 200: Number, 404: Number })
  for (const where of ['', '/content', '/preview']) t.equal((await acme.admin.get(`/files/${file_id}${where}`)).status, 404)
  await remove()
  t.notOk(
    readdirSync(FILES_DIRECTORY, { recursive: true }).some((name) => String(name).endsWith(file_id)),
    'its bytes are gone',
  )
  t.equal((await acme.admin.get(`/files/${other}/content`)).status, 200, 'another one stays')
  t.equal((await acme.admin.get(`/files/${kept.data.id}/content`)).text, 'my own')
  const { rows } = await admin.query('select deleted_at from file_object where id = $1', [file_id])
  t.ok(rows[0].deleted_at)
})

t.test('R6: lines of an import are shown to those alone who may see its file', async (t) => {
  const acme = await withContacts()
  const csv = 'party,name,email\nFLORA,Bea,bea@flora.example\nNOBODY,Eve,eve@flora.example\n'
  const { id: file_id } = (await upload(acme.admin, csv, 'contacts.csv')).data
  const importer = await userWith(acme, ['erp.import.*', 'erp.party_contact.create', 'erp.party.read'])
  const ask = (by: Client, entity = 'erp_party_contact') => by.post('/erp/imports', { entity, file_id })
  t.match(await ask(importer), { status: 403, body: { error: { details: { permission: 'file.object.read' } } } }, "another user's file")
  const made = (await ask(acme.admin)).data
  await eventually(
    async () => (await acme.admin.get(`/erp/imports/${made.id}`)).data,
    ({ status }) => status === 'ready',
    60,
  )
  for (const what of ['preview', 'errors']) {
    t.equal((await importer.get(`/erp/imports/${made.id}/${what}`)).status, 403, what)
    t.equal((await acme.admin.get(`/erp/imports/${made.id}/${what}`)).status, 200, what)
  }
  // The file is shown as contacts are, from now on.
  const clerk = await userWith(acme, ['file.object.read', 'erp.import.*'])
  t.equal((await clerk.get(`/files/${file_id}/content`)).status, 404)
  t.equal((await clerk.get(`/erp/imports/${made.id}/preview`)).status, 403)
  // An own file needs no right to see files.
  const uploader = await userWith(acme, ['erp.import.*', 'file.object.create', 'erp.party_contact.create'])
  const own = (await upload(uploader, csv, 'own.csv')).data.id
  const theirs = await uploader.post('/erp/imports', { entity: 'erp_party_contact', file_id: own })
  t.equal(theirs.status, 201)
  t.equal((await uploader.get(`/erp/imports/${theirs.data.id}/preview`)).status, 200)
})

t.test('R6: contacts are compared with a description for those alone who may read contacts', async (t) => {
  const acme = await withContacts()
  const clerk = await userWith(acme, ['erp.party.create', 'erp.party.read'])
  const lacks = { status: 403, body: { error: { details: { permission: 'erp.party_contact.read' } } } }
  t.match(await clerk.post('/erp/parties/duplicates', { email: SECRET }), lacks)
  t.match(await clerk.post('/erp/parties/duplicates', { name: 'Flora', phone: '+34 600 000 000' }), lacks)
  t.match((await clerk.post('/erp/parties/duplicates', { name: 'Flora' })).data, [{ code: 'FLORA', reasons: ['name'] }])
  t.match((await acme.admin.post('/erp/parties/duplicates', { email: SECRET })).data, [{ code: 'FLORA', reasons: ['email'] }])
  const twin = (await acme.admin.post('/erp/parties', { code: 'TWIN', name: 'Other', roles: ['client'] })).data.id
  await acme.admin.post('/erp/party-contacts', { party_id: twin, name: 'Ana', email: SECRET })
  t.match((await acme.admin.get(`/erp/parties/${twin}/duplicates`)).data, [{ code: 'FLORA' }])
  t.same((await clerk.get(`/erp/parties/${twin}/duplicates`)).data, [])
})
