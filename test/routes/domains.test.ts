// A host name of one's own is used once the DNS shows whose it is.
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { tally, testApp, times } from '../support/app.ts'

const { tenant, runtime, request } = await testApp(t)
const records = new Map<string, string[][]>()
runtime.services.resolveTxt = async (name) => records.get(name) ?? Promise.reject(Object.assign(new Error('none'), { code: 'ENOTFOUND' }))
const nameOf = () => `erp.c${newId().slice(-10)}.example`

t.test('claimed, shown, served at the next request, given up', async (t) => {
  const acme = await tenant()
  const name = nameOf()
  const ask = () => request(name, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${acme.admin.token}` } })
  t.match(await ask(), { status: 404, body: { detail: 'tenant_not_found' } })
  const made = await acme.admin.post('/tenant/domains', { domain: name.toUpperCase() })
  t.match(made, {
    status: 201,
    data: { domain: name, record: `_tenantry.${name}`, value: /^tenantry-verification=[0-9a-f]{40}$/, verified_at: null },
  })
  const { id, record, value } = made.data
  const verify = () => acme.admin.post(`/tenant/domains/${id}/verify`, {})
  t.match(await verify(), { status: 400, body: { detail: 'invalid_value', error: { details: { rule: 'dns', record, value } } } })
  records.set(record, [['something else'], [value.slice(0, 20), value.slice(20)]])
  t.equal((await ask()).status, 404, 'not before it is verified')
  t.match(await verify(), { status: 200, data: { verified_at: String } })
  t.match(await ask(), { status: 200 })
  const preflight = await request(acme.host, {
    method: 'GET',
    url: '/api/v1/auth/me',
    headers: { authorization: `Bearer ${acme.admin.token}`, origin: `http://${name}` },
  })
  t.equal(preflight.headers['access-control-allow-origin'], `http://${name}`)
  t.match(await acme.viewer.delete(`/tenant/domains/${id}`), { status: 403 })
  t.equal((await acme.admin.delete(`/tenant/domains/${id}`)).status, 204)
  t.equal((await ask()).status, 404)
  t.equal((await acme.admin.delete(`/tenant/domains/${id}`)).status, 404)
})

t.test('names that are none, are ours, or are there already', async (t) => {
  const acme = await tenant()
  const add = (domain: string) => acme.admin.post('/tenant/domains', { domain })
  for (const domain of [
    'localhost',
    'x.localhost',
    'no-dots',
    '10.0.0.1',
    'a b.example',
    '-a.example',
    `${'a'.repeat(64)}.example`,
    'http://x.example',
  ]) {
    t.match(await add(domain), { status: 400, body: { detail: 'invalid_value' } }, domain)
  }
  t.match((await add('bücher.example')).data, { domain: 'xn--bcher-kva.example' })
  t.match(await add('BÜCHER.example.'), { status: 409, body: { detail: 'already_exists' } })
  const answers = await Promise.all(times(24, () => add(nameOf())))
  t.same(tally(answers), { 201: 19, 409: 5 }, 'twenty at most')
})

t.test('of two who claim one name the one has it that shows it first', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const domain = nameOf()
  const claims = await Promise.all([acme, globex].map((one) => one.admin.post('/tenant/domains', { domain })))
  records.set(
    `_tenantry.${domain}`,
    claims.map((claim) => [claim.data.value]),
  )
  const verify = (at: number) => [acme, globex][at]!.admin.post(`/tenant/domains/${claims[at]!.data.id}/verify`, {})
  t.same(tally(await Promise.all([verify(0), verify(1)])), { 200: 1, 409: 1 })
  t.equal((await acme.admin.post(`/tenant/domains/${claims[1]!.data.id}/verify`, {})).status, 404, 'another tenant’s claim is not there')
})
