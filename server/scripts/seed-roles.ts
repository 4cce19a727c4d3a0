import { Type } from 'typebox'
import { sql } from '../../domain/kernel/index.ts'
import { SEEDED_ROLES } from '../../domain/tenancy/index.ts'
import { defineScript } from '../define-script.ts'

const Missing = Type.Object({ tenant_id: Type.String(), slug: Type.String(), code: Type.String() })

export default defineScript({
  name: 'seed-roles',
  description:
    'Makes the seeded roles (admin, manager, operator, viewer) that a tenant lacks; --tenant=slug for one tenant. Roles that are there, changed or not, are left alone, and registrations that wait get theirs when they are made.',
  flags: ['--tenant=slug'],
  async run({ queries, tenant, progress, say }) {
    const missing = await queries.any(sql.type(Missing)`
      select t.id as tenant_id, t.slug, c.code from tenants t cross join unnest(${sql.array(Object.keys(SEEDED_ROLES), 'text')}) as c (code)
      where t.status in ('active', 'suspended') and (${tenant}::text is null or t.slug = ${tenant})
        and not exists (select from res_roles r where r.tenant_id = t.id and r.code = c.code and r.deleted_at is null)
      order by t.slug, c.code`)
    for (const [at, { tenant_id, slug, code }] of missing.entries()) {
      const { name, permissions } = SEEDED_ROLES[code as keyof typeof SEEDED_ROLES]
      await queries.query(sql.run`
        with made as (
          insert into res_roles (id, tenant_id, code, name, template) values (gen_random_uuid(), ${tenant_id}, ${code}, ${name}, ${code}) returning id)
        insert into res_role_permissions (id, tenant_id, role_id, permission)
        select gen_random_uuid(), ${tenant_id}, made.id, p from made, unnest(${sql.array([...permissions], 'text')}) as p`)
      say(`${slug}: ${code}`)
      progress(at + 1, missing.length)
    }
    return missing.length
  },
})
