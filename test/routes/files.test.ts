// Files: taken in with care, served with more.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import sharp from 'sharp'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { folderProblems } from '../../server/files.ts'
import { testApp, times, upload } from '../support/app.ts'
import { EICAR, testScanner } from '../support/clamd.ts'
import { catalogue } from '../support/erp.ts'
import { testConfig } from '../support/services.ts'

/** Where this run's S3 store is, and what it is entered with. */
const s3 = process.env.FILES_S3_ENDPOINT
const incoming = () => mkdtempSync(path.join(tmpdir(), 'tenantry-test-files-'))

const picture = (width: number, height: number) =>
  sharp({ create: { width, height, channels: 3, background: 'red' } })
    .png()
    .toBuffer()
const everything = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)

for (const store of ['folder', 's3'] as const) {
  t.test(
    `kept in a ${store}: what is put in comes out, whole or in part`,
    { skip: store === 's3' && !s3 ? 'THIS RUN HAS NO S3 STORE' : false },
    async (t) => {
      const folder = incoming()
      if (store === 's3') {
        const credentials = { accessKeyId: 'tenantry', secretAccessKey: 'tenantry-secret' }
        await new S3Client({ endpoint: s3!, region: 'us-east-1', forcePathStyle: true, credentials })
          .send(new CreateBucketCommand({ Bucket: 'files' }))
          .catch(() => {})
      }
      const { tenant } = await testApp(t, {
        FILES_INCOMING: path.join(folder, 'incoming'),
        FILES_MAX_BYTES: '1000000',
        ...(store === 's3'
          ? { FILES_S3_ENDPOINT: s3!, FILES_S3_BUCKET: 'files', FILES_S3_ACCESS_KEY: 'tenantry', FILES_S3_SECRET_KEY: 'tenantry-secret' }
          : { FILES_DIRECTORY: folder }),
      })
      const acme = await tenant()
      const bytes = Buffer.from(times(50_000, (n) => `${n}\n`).join(''))
      const made = await upload(acme.admin, bytes, '../Preço «novo».txt')
      t.match(made, {
        status: 201,
        data: {
          name: 'Preço «novo».txt',
          size: bytes.length,
          sha256: createHash('sha256').update(bytes).digest('hex'),
          media_type: 'text/plain',
          scan: 'unscanned',
          links: [],
        },
      })
      const { id, sha256 } = made.data
      const get = (headers: Record<string, string> = {}) => acme.viewer.get(`/files/${id}/content`, headers)
      const whole = await get()
      t.equal(whole.text, bytes.toString())
      t.match(whole.headers, {
        'content-type': 'text/plain',
        'content-length': bytes.length,
        'x-content-type-options': 'nosniff',
        'content-security-policy': /sandbox/,
        'content-disposition': /^attachment; filename=".*"; filename\*=UTF-8''Pre%C3%A7o/,
      })
      for (const [range, text, bounds] of [
        ['bytes=0-4', bytes.subarray(0, 5), `0-4`],
        ['bytes=100-', bytes.subarray(100), `100-${bytes.length - 1}`],
        ['bytes=-10', bytes.subarray(-10), `${bytes.length - 10}-${bytes.length - 1}`],
        ['bytes=5-99999999', bytes.subarray(5), `5-${bytes.length - 1}`],
      ] as const) {
        const part = await get({ range })
        t.match(part, { status: 206, text: text.toString(), headers: { 'content-range': `bytes ${bounds}/${bytes.length}` } }, range)
      }
      t.match(await get({ range: `bytes=${bytes.length}-` }), { status: 416, body: { detail: 'range_not_satisfiable' } })
      t.equal((await get({ range: 'bytes=9-5' })).status, 416)
      t.equal((await get({ range: 'lines=1-2' })).status, 200)
      t.equal((await get({ range: 'bytes=0-4', 'if-range': '"other"' })).status, 200)
      t.equal((await get({ 'if-none-match': `"${sha256}"` })).status, 304)
      const tooLarge = await upload(acme.admin, Buffer.alloc(1_000_001, 'x'))
      t.match(tooLarge, { status: 413, body: { detail: 'body_too_large' } })
      t.equal((await upload(acme.admin, Buffer.alloc(1_000_000, 'x'))).status, 201)
      t.match(await upload(acme.admin, ''), { status: 400, body: { detail: 'invalid_value' } })
      const shown = await upload(acme.admin, await picture(640, 480), 'rose.png')
      t.match(shown.data, { media_type: 'image/png', width: 640, height: 480 })
      for (const _ of [1, 2]) {
        const preview = await acme.viewer.get(`/files/${shown.data.id}/preview?size=64`)
        t.match(preview, { status: 200, headers: { 'content-type': 'image/webp' } })
      }
      t.match(await acme.viewer.get(`/files/${id}/preview`), { status: 400, body: { detail: 'invalid_value' } })
      t.match(await acme.viewer.get(`/files/${shown.data.id}/preview?size=65`), { status: 400 })
      t.equal((await acme.admin.delete(`/files/${id}`, { 'if-match': '"1"' })).status, 204)
      t.equal((await get()).status, 404)
      t.same(everything(path.join(folder, 'incoming')), [], 'nothing is left of what was on its way')
      const stranger = await tenant()
      for (const where of ['', '/content', '/preview']) t.equal((await stranger.admin.get(`/files/${shown.data.id}${where}`)).status, 404)
      t.equal((await stranger.admin.delete(`/files/${shown.data.id}`, { 'if-match': '"1"' })).status, 404)
    },
  )
}

t.test('nothing is served before it was found clean', async (t) => {
  const folder = incoming()
  const { tenant } = await testApp(t, { FILES_DIRECTORY: folder, CLAMD_ADDRESS: await testScanner(t) })
  const acme = await tenant()
  const good = await upload(acme.admin, 'All is well')
  t.match(good, { status: 201, data: { scan: 'clean' } })
  t.equal((await acme.viewer.get(`/files/${good.data.id}/content`)).text, 'All is well')
  const bad = await upload(acme.admin, EICAR)
  t.match(bad, { status: 409, body: { detail: 'file_infected', error: { details: { finding: /eicar/i } } } })
  const { id } = bad.body.error.details
  t.match(await acme.viewer.get(`/files/${id}`), { status: 200, data: { scan: 'infected' } })
  t.match(await acme.viewer.get(`/files/${id}/content`), { status: 409, body: { detail: 'file_infected' } })
  t.notOk(everything(folder).includes(id), 'its bytes are gone')

  // The scanner is away: the file waits in quarantine, and is looked at when it is back.
  const away = await testApp(t, { FILES_DIRECTORY: folder, CLAMD_ADDRESS: '127.0.0.1:1' })
  const globex = await away.tenant()
  const waiting = await upload(globex.admin, 'Wait for me')
  t.match(waiting, { status: 201, data: { scan: 'pending' } })
  const content = `/api/v1/files/${waiting.data.id}/content`
  t.match(await globex.viewer.get(content), { status: 503, body: { detail: 'scanner_unavailable' } })
  const back = await testApp(t, { FILES_DIRECTORY: folder, CLAMD_ADDRESS: await testScanner(t) })
  const headers = { authorization: `Bearer ${globex.viewer.token}` }
  t.match(await back.request(globex.host, { url: content, headers }), { status: 200, text: 'Wait for me' })
  t.match(await back.request(globex.host, { url: content.replace('/content', ''), headers }), { data: { scan: 'clean' } })
})

t.test('files belong to records, as often as one likes', async (t) => {
  const { tenant } = await testApp(t, { FILES_DIRECTORY: incoming() })
  const acme = await tenant()
  const c = await catalogue(acme)
  const attach = (entity_id: string, entity = 'erp_product') => `?entity=${entity}&entity_id=${entity_id}`
  const { data } = await upload(acme.admin, await picture(10, 10), 'p.png', `${attach(c.product)}&role=image`)
  t.match(data.links, [{ entity: 'erp_product', entity_id: c.product, role: 'image' }])
  const link = (entity_id: string, entity = 'erp_party') => acme.admin.post(`/files/${data.id}/links`, { entity, entity_id })
  t.equal((await link(c.supplier)).status, 201)
  t.equal((await link(c.supplier)).status, 201, 'twice is once')
  t.equal((await acme.viewer.get(`/files/${data.id}`)).data.links.length, 2)
  t.same(
    (await acme.viewer.get(`/files/attached?entity=erp_party&entity_id=${c.supplier}`)).data.map((file: { id: string }) => file.id),
    [data.id],
  )
  t.match(await link(newId()), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await link(c.product), { status: 400, body: { detail: 'invalid_reference' } }, 'a product is no party')
  t.match(await link(c.supplier, 'res_users'), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await upload(acme.admin, 'x', 'x', attach(newId())), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await upload(acme.admin, 'x', 'x', '?entity=erp_product'), { status: 400, body: { detail: 'invalid_query' } })
  const [first] = (await acme.viewer.get(`/files/${data.id}`)).data.links
  t.equal((await acme.admin.delete(`/files/${data.id}/links/${first.id}`)).status, 204)
  t.equal((await acme.admin.delete(`/files/${data.id}/links/${first.id}`)).status, 404)
  t.same((await acme.viewer.get(`/files/attached?entity=erp_product&entity_id=${c.product}`)).data, [])
  t.equal((await upload(acme.viewer, 'x')).status, 403)
  t.equal((await acme.viewer.delete(`/files/${data.id}`, { 'if-match': '"1"' })).status, 403)
  t.match(await acme.admin.delete(`/files/${data.id}`), { status: 400, body: { detail: 'version_required' } })
  t.match(await acme.admin.delete(`/files/${data.id}`, { 'if-match': '"7"' }), { status: 409, body: { detail: 'version_conflict' } })
  t.equal((await acme.viewer.get('/files?media_type=image/png')).data.length, 1)
  const stranger = await tenant()
  t.equal((await stranger.viewer.get(`/files/attached?entity=erp_party&entity_id=${c.supplier}`)).status, 404)
  t.equal((await stranger.admin.post(`/files/${data.id}/links`, { entity: 'erp_party', entity_id: c.supplier })).status, 404)
})

t.test('bytes are what they are, whatever they are called', async (t) => {
  const folder = incoming()
  const { tenant } = await testApp(t, { FILES_DIRECTORY: folder })
  const acme = await tenant()
  const type = async (bytes: Buffer | string, name: string) => (await upload(acme.admin, bytes, name)).data?.media_type
  t.equal(await type('<script>alert(1)</script>', 'photo.png'), 'text/plain')
  t.equal(await type('<svg xmlns="http://www.w3.org/2000/svg"/>', 'a.svg'), 'text/plain', 'a program is no picture')
  t.equal(await type('%PDF-1.7\n%âãÏÓ\n', 'a.png'), 'application/pdf')
  // A picture and a page at once: served as a picture, and made small without the page.
  const polyglot = Buffer.concat([await picture(8, 8), Buffer.from('<html><script>alert(1)</script>')])
  const two = await upload(acme.admin, polyglot, 'two.html')
  t.match(two, { status: 201, data: { media_type: 'image/png' } })
  t.match((await acme.viewer.get(`/files/${two.data.id}/content`)).headers, {
    'content-type': 'image/png',
    'content-disposition': /^attachment/,
  })
  t.notMatch((await acme.viewer.get(`/files/${two.data.id}/preview?size=64`)).text, /script/)
  // A PNG of 30,000 × 30,000 in a few bytes: what its head says is enough.
  const huge = Buffer.from(await picture(1, 1))
  huge.writeUInt32BE(30_000, 16)
  huge.writeUInt32BE(30_000, 20)
  t.match(await upload(acme.admin, huge, 'huge.png'), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { rule: /pixels|picture/ } } },
  })
  t.match(await acme.admin.post('/files', { not: 'a file' }), { status: 415, body: { detail: 'unsupported_media_type' } })
  const form = { 'content-type': 'multipart/form-data; boundary=x' }
  for (const body of [
    '',
    '--x--\r\n',
    '--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
    'nonsense',
    '--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
  ])
    t.ok([400, 413].includes((await acme.admin.post('/files', Buffer.from(body), form)).status), JSON.stringify(body))
})

t.test('the plan’s storage is counted in bytes; a key is used once', async (t) => {
  const folder = incoming()
  const { tenant } = await testApp(t, { FILES_DIRECTORY: folder })
  const acme = await tenant()
  const used = async () => (await acme.admin.get('/tenant/usage')).data.find((one: { metric: string }) => one.metric === 'storage')?.used
  const key = { 'idempotency-key': newId() }
  const answers = []
  for (const _ of [1, 2]) answers.push(await upload(acme.admin, 'twelve bytes', 'a.txt', '', key))
  t.equal(answers[0]!.data.id, answers[1]!.data.id)
  t.match(await upload(acme.admin, 'other bytes!', 'a.txt', '', key), { status: 409, body: { detail: 'idempotency_key_reused' } })
  t.equal(everything(folder).length, 1, 'nothing is left of what was not taken')
  t.equal(await used(), 12)
  await acme.admin.delete(`/files/${answers[0]!.data.id}`, { 'if-match': '"1"' })
  t.equal(await used(), 0)
})

t.test('An upload that the store does not take gets 503, and the connection goes on', async (t) => {
  const folder = incoming()
  const place = path.join(folder, 'incoming')
  const { tenant, app } = await testApp(t, { FILES_DIRECTORY: folder, FILES_INCOMING: place })
  const acme = await tenant()
  const unavailable = { status: 503, body: { detail: 'file_store_unavailable' }, headers: { 'retry-after': '1' } }
  t.equal((await upload(acme.admin, 'one')).status, 201)

  rmSync(place, { recursive: true })
  writeFileSync(place, 'a file in place of the folder')
  t.match(await upload(acme.admin, 'two'), unavailable, 'bytes cannot come in')

  // A body larger than what the sockets hold: without draining the caller would never end sending.
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  const sending = httpRequest({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/api/v1/files',
    headers: {
      host: acme.host,
      authorization: `Bearer ${acme.admin.token}`,
      'content-type': 'multipart/form-data; boundary=edge',
    },
  })
  sending.write('--edge\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n')
  const answered = once(sending, 'response') as Promise<[IncomingMessage]>
  const sent = new Promise<void>((resolve) => sending.end(`${'x'.repeat(20_000_000)}\r\n--edge--\r\n`, resolve))
  const [[answer]] = await Promise.all([answered, sent])
  answer.resume()
  t.equal(answer.statusCode, 503)

  rmSync(place)
  rmSync(path.join(folder, acme.id), { recursive: true })
  writeFileSync(path.join(folder, acme.id), 'a file in place of the tenant’s folder')
  t.match(await upload(acme.admin, 'three'), unavailable, 'bytes cannot be kept')
  t.same(readdirSync(place), [], 'and nothing stays')
})

t.test('A folder for files that cannot be written is named before the start', async (t) => {
  const folder = incoming()
  const file = path.join(folder, 'file')
  writeFileSync(file, '')
  const problems = (overrides: Record<string, string>) => folderProblems(testConfig(overrides))
  t.same(await problems({ FILES_DIRECTORY: path.join(folder, 'new') }), [])
  t.match(await problems({ FILES_DIRECTORY: file }), [/^FILES_DIRECTORY: cannot be written: /])
  t.match(await problems({ FILES_DIRECTORY: folder, FILES_INCOMING: path.join(file, 'x') }), [/^FILES_INCOMING: cannot be written: /])
  t.same(readdirSync(folder).sort(), ['file', 'new'], 'no probe stays')
})
