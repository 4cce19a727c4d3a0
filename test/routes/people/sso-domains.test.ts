// Domains of an identity provider count once the DNS proves them.
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { tally, testApp } from '../../support/app.ts'
import { singleSignOn } from '../../support/single-sign-on.ts'

const testing = await testApp(t)
const { tenant, runtime } = testing
const { withSso, signIn, prove, linksOf, change, post, records } = singleSignOn(testing)
const input = (name: string, domain: string) => ({ name, issuer: 'https://login.example', client_id: 'x', domains: [domain] })
const path = '/tenant/identity-providers'

t.test('F4: a domain is proven by its own TXT record, and a new one counts for nothing before', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  const added = `b-${acme.slug}.example`
  const domains = [`${acme.slug}.example`, added]
  t.match(await change(sso, acme.admin, { domains }), {
    status: 200,
    data: { domains, proven_domains: [`${acme.slug}.example`], findings: ['domain_unproven'] },
  })
  idp.people.set('eve', { sub: 'eve', email: `eve@${added}`, name: 'Eve' })
  t.match(await signIn(sso, 'eve'), { status: 401, body: { error: { details: { reason: 'domain_not_proven' } } } })
  const claim = (await acme.admin.get(`${path}/${provider}/domains`)).data.find(({ domain }: { domain: string }) => domain === added)
  t.match(claim, { record: `_tenantry.${added}`, value: /^tenantry-sso-verification=[0-9a-f]{40}$/, verified_at: null, proven_by: null })
  records.set(claim.record, [['tenantry-sso-verification=something-else']])
  t.match(await acme.admin.post(`${path}/${provider}/domains/${claim.id}/verify`, {}), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await acme.viewer.post(`${path}/${provider}/domains/${claim.id}/verify`, {}), { status: 403 })
  records.set(claim.record, [[claim.value.slice(0, 9), claim.value.slice(9)]])
  t.match(await acme.admin.post(`${path}/${provider}/domains/${claim.id}/verify`, {}), { status: 200, data: { proven_by: 'dns' } })
  const { refresh_token } = (await signIn(sso, 'eve')).data
  t.equal((await change(sso, acme.admin, { domains: [`${acme.slug}.example`] })).status, 200)
  t.match(await signIn(sso, 'eve'), { status: 401, body: { error: { details: { reason: 'foreign_domain' } } } })
  t.match(await post(acme.host, '/auth/refresh?token=body', { refresh_token }), { status: 401, body: { detail: 'session_revoked' } })
  t.equal((await change(sso, acme.admin, { domains })).data.proven_domains.length, 1, 'a domain that was taken off is proven again')
})

t.test('F4: a mapped role is not deleted, and another role that takes its code is not mapped', async (t) => {
  const sso = await withSso(t, { role_map: {} })
  const { acme, idp, provider } = sso
  const role = (await acme.admin.post('/rbac/roles', { code: 'picker', name: 'Picker', permissions: ['erp.party.read'] })).data
  await change(sso, acme.admin, { role_map: { pickers: 'picker' } })
  t.match(await acme.admin.delete(`/rbac/roles/${role.id}`, { 'if-match': `"${role.version}"` }), {
    status: 409,
    body: { detail: 'in_use', error: { details: { assignments: 0, providers: 1 } } },
  })
  t.equal((await acme.admin.patch(`/rbac/roles/${role.id}`, { code: 'harvester', version: role.version })).status, 200)
  t.equal((await acme.admin.post('/rbac/roles', { code: 'picker', name: 'Another', permissions: ['erp.*'] })).status, 201)
  t.match((await acme.admin.get(`${path}/${provider}`)).data, { role_map: { pickers: 'harvester' }, findings: [] })
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim', groups: ['pickers'] })
  const kim = await signIn(sso, 'kim')
  t.match((await acme.admin.get(`/users/${kim.data.user.id}/roles`)).data, [{ role: 'harvester' }])
})

t.test('F4: within a tenant a domain has one provider, also of two that prove it at once', async (t) => {
  const acme = await tenant()
  const domain = `${acme.slug}.example`
  const [first, second] = await Promise.all(['A', 'B'].map((name) => acme.admin.post(path, input(name, domain))))
  const proofs = await Promise.all([first, second].map((one) => prove(acme.admin, one!.data.id)))
  t.same(tally(proofs), { 200: 1, 409: 1 })
  const findings = (await acme.admin.get(path)).data.map(({ findings }: { findings: string[] }) => findings.join())
  t.same(findings.toSorted(), ['', 'domain_proven_elsewhere,domain_unproven'])
})

t.test('F4: two tenants prove one domain, each by a record of its own that proves nothing at the other', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const domain = `${acme.slug}.example`
  const [ours, theirs] = await Promise.all([acme, globex].map((one) => one.admin.post(path, input('A', domain))))
  t.equal((await prove(acme.admin, ours!.data.id)).status, 200)
  const [claim] = (await globex.admin.get(`${path}/${theirs!.data.id}/domains`)).data
  t.match(await globex.admin.post(`${path}/${theirs!.data.id}/domains/${claim.id}/verify`, {}), { status: 400 })
  t.match(await globex.admin.post(`${path}/${ours!.data.id}/domains/${claim.id}/verify`, {}), { status: 404 })
  t.equal((await prove(globex.admin, theirs!.data.id)).status, 200)
})

t.test('F4: a proven host name of the tenant counts for exactly that domain', async (t) => {
  const acme = await tenant()
  const domain = `${acme.slug}.example`
  const claim = (await acme.admin.post('/tenant/domains', { domain })).data
  t.match((await acme.admin.post(path, input('Before', domain))).data, { proven_domains: [] }, 'an unproven host name proves nothing')
  records.set(claim.record, [[claim.value]])
  t.equal((await acme.admin.post(`/tenant/domains/${claim.id}/verify`, {})).status, 200)
  const created = await acme.admin.post(path, { ...input('After', domain), domains: [domain, `mail.${domain}`] })
  t.match(created, { data: { proven_domains: [domain], findings: ['domain_unproven'] } })
  t.match((await acme.admin.get(`${path}/${created.data.id}/domains`)).data, [{ proven_by: null }, { proven_by: 'tenant_domain' }])
})

t.test('F4: a grandfathered domain signs links in and is a finding, and takes up no invitation until it is proven', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim' })
  t.equal((await signIn(sso, 'kim')).status, 200)
  await runtime.services.planes.control.write(acme.scope, (tx) =>
    tx.query(sql.run`update res_identity_provider_domains set proven_by = 'grandfathered' where tenant_id = ${tx.tenantId}`),
  )
  t.match((await acme.admin.get(`${path}/${provider}`)).data, {
    proven_domains: [`${acme.slug}.example`],
    findings: ['domain_grandfathered'],
  })
  t.equal((await signIn(sso, 'kim')).status, 200, 'existing links stay valid')
  const email = `new@${acme.slug}.example`
  const invited = (await acme.admin.post('/users', { email, name: 'New', roles: [{ role: 'admin' }] })).data
  idp.people.set('new', { sub: 'new', email, name: 'New' })
  t.match(await signIn(sso, 'new'), { status: 401, body: { detail: 'sso_link_required' } })
  const [claim] = (await acme.admin.get(`${path}/${provider}/domains`)).data
  t.match((await acme.admin.post(`${path}/${provider}/domains/${claim.id}/verify`, {})).data, { proven_by: 'dns' })
  t.match((await acme.admin.get(`${path}/${provider}`)).data, { findings: [] })
  t.match(await signIn(sso, 'new'), { status: 200, data: { user: { id: invited.id } } })
  t.same(await linksOf(acme.admin), [])
})
