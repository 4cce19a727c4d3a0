// Types of files that are taken, and rights of the records that files are attached to.
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { testApp, upload } from '../support/app.ts'
import { catalogue } from '../support/erp.ts'
import { zip } from '../support/zip.ts'

const FILES_DIRECTORY = mkdtempSync(path.join(tmpdir(), 'tenantry-test-file-rights-'))
const { tenant } = await testApp(t, { FILES_DIRECTORY })
const picture = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: 'red' } })
    .png()
    .toBuffer()

t.test('F24: only files of the allowed types are taken, by their bytes, and the answer says which', async (t) => {
  const acme = await tenant()
  const program = Buffer.concat([Buffer.from('MZ'), Buffer.alloc(62), Buffer.from([0x40, 0, 0, 0]), Buffer.alloc(200)])
  const refused = await upload(acme.admin, program, 'invoice.pdf')
  t.match(refused, {
    status: 415,
    body: { detail: 'file_type_not_allowed', error: { details: { media_type: 'application/x-msdownload' } } },
  })
  const { allowed } = refused.body.error.details
  t.ok(['application/pdf', 'image/png', 'text/plain'].every((type) => allowed.includes(type)))
  const type = async (bytes: Buffer | string, name = 'a') => {
    const { status, data, body } = await upload(acme.admin, bytes, name)
    return status === 201 ? data.media_type : body.error.details.media_type
  }
  t.equal(await type(Buffer.from([0, 1, 2, 3, 0xff]), 'a.txt'), 'application/octet-stream')
  t.equal(await type(Buffer.from('\x7fELF\x02\x01\x01', 'latin1')), 'application/x-elf')
  t.equal(await type(zip([{ name: 'a', bytes: Buffer.from('x') }])), 'application/zip', 'what is in an archive is not known')
  t.equal(await type(Buffer.from('Año nuevo;1\n', 'latin1')), 'text/plain', 'text of one byte a character')
  t.equal(await type(Buffer.from('\ufeffAño nuevo', 'utf16le')), 'text/plain')
  t.same((await acme.viewer.get('/files')).data.length, 2, 'nothing is noted of the others')

  const own = await testApp(t, { FILES_DIRECTORY, FILES_TYPES: 'application/zip,image/*' })
  const globex = await own.tenant()
  t.equal((await upload(globex.admin, zip([{ name: 'a', bytes: Buffer.from('x') }]))).status, 201)
  t.equal((await upload(globex.admin, await picture(2, 2))).status, 201)
  t.equal((await upload(globex.admin, 'text')).status, 415)
})

t.test('R6: attachments ask for the right to read the record, and for a record of this organization', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await acme.admin.post('/rbac/roles', { code: 'filer', name: 'Filer', permissions: ['file.object.*', 'erp.product.read'] })
  const filer = await acme.user('viewer')
  const [viewer] = (await acme.admin.get(`/users/${filer.userId}/roles`)).data
  t.equal((await acme.admin.post(`/users/${filer.userId}/roles`, { role: 'filer' })).status, 201)
  t.equal((await acme.admin.delete(`/users/${filer.userId}/roles/${viewer.id}`)).status, 204)
  const ofParty = `?entity=erp_party&entity_id=${c.supplier}`
  const { id } = (await upload(acme.admin, 'contract', 'contract.txt', ofParty)).data
  await acme.admin.post(`/files/${id}/links`, { entity: 'erp_product', entity_id: c.product })
  const lacks = { status: 403, body: { error: { details: { permission: 'erp.party.read' } } } }
  t.match(await filer.get(`/files/attached${ofParty}`), lacks)
  t.match(await upload(filer, 'x', 'x', ofParty), lacks)
  t.match(await filer.post(`/files/${id}/links`, { entity: 'erp_party', entity_id: c.supplier }), lacks)
  t.match((await filer.get(`/files/attached?entity=erp_product&entity_id=${c.product}`)).data, [{ id }])
  const all = (await acme.admin.get(`/files/${id}`)).data.links as { id: string; entity: string }[]
  t.same(all.map(({ entity }) => entity).sort(), ['erp_party', 'erp_product'])
  t.match((await filer.get(`/files/${id}`)).data.links, [{ entity: 'erp_product' }], 'other records are not named')
  const party = all.find(({ entity }) => entity === 'erp_party')!
  t.equal((await filer.delete(`/files/${id}/links/${party.id}`)).status, 404)

  t.match(await acme.admin.get(`/files/attached?entity=erp_party&entity_id=${newId()}`), { status: 404 })
  t.match(await acme.admin.get(`/files/attached?entity=erp_party&entity_id=${c.product}`), { status: 404 }, 'a product is no party')
  t.match(await acme.admin.get(`/files/attached?entity_id=${c.supplier}`), { status: 400, body: { detail: 'invalid_query' } })
  const switched = await acme.admin.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
  t.equal(switched.status, 200)
  const elsewhere = acme.as(switched.data.access_token)
  t.equal((await elsewhere.get(`/files/attached${ofParty}`)).status, 404, 'another organization')
  t.equal((await elsewhere.get(`/files/${id}/content`)).status, 404)
  t.equal((await elsewhere.post(`/files/${id}/links`, { entity: 'erp_party', entity_id: c.supplier })).status, 404)
})

t.test('R6: a file is seen in its workspace alone, until it is attached to master data', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const [one] = acme.organizations
  const within = (workspaceId: string) => acme.user('manager', { organizationId: one!.id, workspaceId })
  const [north, south] = [await within(one!.workspaces[0]!.id), await within(one!.workspaces[1]!.id)]
  const { id } = (await upload(north, 'of north', 'north.txt')).data
  const seenBy = async (who: typeof north) =>
    [
      (await who.get('/files')).data.map((file: { id: string }) => file.id).includes(id),
      (await who.get(`/files/${id}`)).status === 200,
      (await who.get(`/files/${id}/content`)).status === 200,
    ].join()
  const link = (who: typeof north) => who.post(`/files/${id}/links`, { entity: 'erp_product', entity_id: c.product })
  t.equal(await seenBy(north), 'true,true,true')
  t.equal(await seenBy(acme.admin), 'true,true,true', 'the organization sees its workspaces')
  t.equal(await seenBy(south), 'false,false,false')
  t.equal((await link(south)).status, 403)
  t.equal((await south.delete(`/files/${id}`, { 'if-match': '"1"' })).status, 404)
  t.match(await link(north), { status: 403, body: { detail: 'permission_denied' } }, 'master data is the organization’s')
  t.equal((await link(acme.manager)).status, 201)
  t.equal(await seenBy(south), 'true,true,true')
  t.match((await south.get(`/files/attached?entity=erp_product&entity_id=${c.product}`)).data, [{ id }])
  t.equal((await south.delete(`/files/${id}`, { 'if-match': '"1"' })).status, 403, 'seen, and not theirs to delete')
})
