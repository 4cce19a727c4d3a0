// Migration 030 on existing providers: links stay valid, used domains are grandfathered, codes become ids.
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { prepareServer } from '../../server/embedded/postgres.ts'
import { testServices } from '../support/services.ts'

const SQL = path.join(import.meta.dirname, '..', '..', 'sql')
const NAME = '030_single_sign_on.sql'

/** A control database as it was before the migration, and the migration itself. */
async function before(t: { teardown(work: () => unknown): void }): Promise<{ client: Client; migrate(): Promise<void> }> {
  const shared = testServices().admin.control
  const name = `tenantry_test_sso_${process.pid}`
  await prepareServer(shared, [name])
  const client = new Client({ connectionString: Object.assign(new URL(shared), { pathname: `/${name}` }).href })
  await client.connect()
  t.teardown(async () => {
    await client.end()
    const admin = new Client({ connectionString: shared })
    await admin.connect()
    await admin.query(`drop database if exists ${name} with (force)`)
    await admin.end()
  })
  const run = async (folder: string, file: string) => client.query(await readFile(path.join(SQL, folder, file), 'utf8'))
  await client.query(await readFile(path.join(SQL, 'roles.sql'), 'utf8'))
  await client.query('set role tenantry_owner; set search_path to public, extensions')
  for (const folder of ['plane', 'control'])
    for (const file of (await readdir(path.join(SQL, folder))).sort()) if (folder === 'plane' || file < NAME) await run(folder, file)
  return { client, migrate: async () => void (await run('control', NAME)) }
}

t.test('F4: existing links stay valid, domains in use are grandfathered, unused ones need a proof, roles are kept by id', async (t) => {
  const { client, migrate } = await before(t)
  const [tenant, role, rosa, used, unused] = [newId(), newId(), newId(), newId(), newId()]
  await client.query(`insert into tenants (id, slug, name, status) values ($1, 'acme', 'Acme', 'active')`, [tenant])
  await client.query(`insert into res_roles (id, tenant_id, code, name) values ($1, $2, 'operator', 'Operator')`, [role, tenant])
  await client.query(`insert into res_users (id, tenant_id, email, name, status) values ($1, $2, 'rosa@acme.example', 'Rosa', 'active')`, [
    rosa,
    tenant,
  ])
  for (const [id, name, domains] of [
    [used, 'Used', ['acme.example', 'idle.example']],
    [unused, 'Unused', ['acme.example', 'new.example']],
  ] as const)
    await client.query(
      `insert into res_identity_providers (id, tenant_id, name, issuer, client_id, domains, role_map, default_role)
       values ($1, $2, $3, 'https://login.example', 'x', $4, '{"growers":"operator","ghosts":"gone"}', 'operator')`,
      [id, tenant, name, domains],
    )
  const subject = `insert into res_user_identities (id, tenant_id, user_id, provider_id, subject, last_login_at) values ($1, $2, $3, $4, $5, now())`
  await client.query(subject, [newId(), tenant, rosa, used, 'rosa'])
  await client.query(subject, [newId(), tenant, rosa, used, 'eve'])
  await migrate()

  const rows = async (text: string) => (await client.query(text)).rows
  t.same(await rows(`select subject, status, reason from res_user_identities order by id`), [
    { subject: 'rosa', status: 'active', reason: 'before_confirmation' },
    { subject: 'eve', status: 'suspended', reason: 'second_subject' },
  ])
  t.same(
    await rows(`select p.name, d.domain, d.proven_by, d.verified_at is not null as counts from res_identity_provider_domains d
      join res_identity_providers p on p.id = d.provider_id order by p.name desc, d.domain`),
    [
      { name: 'Used', domain: 'acme.example', proven_by: 'grandfathered', counts: true },
      { name: 'Used', domain: 'idle.example', proven_by: null, counts: false },
      { name: 'Unused', domain: 'acme.example', proven_by: null, counts: false },
      { name: 'Unused', domain: 'new.example', proven_by: null, counts: false },
    ],
  )
  t.same(
    await rows(`select group_name, role_id from res_identity_provider_roles where provider_id = '${used}' order by group_name nulls last`),
    [
      { group_name: 'growers', role_id: role },
      { group_name: null, role_id: role },
    ],
  )
})
