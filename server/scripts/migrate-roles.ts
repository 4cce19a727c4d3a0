import { Type } from 'typebox'
import { sql } from '../../domain/kernel/index.ts'
import { SEEDED_ROLES } from '../../domain/tenancy/index.ts'
import { defineScript } from '../define-script.ts'

const Added = Type.Object({ slug: Type.String(), code: Type.String(), permission: Type.String() })

export default defineScript({
  name: 'migrate-roles',
  description:
    'Adds to roles that were made from a template what the template holds today; --tenant=slug for one tenant. What a tenant added to a role stays; nothing is taken away.',
  flags: ['--tenant=slug'],
  async run({ queries, tenant, progress, say }) {
    const wanted = Object.entries(SEEDED_ROLES).flatMap(([template, { permissions }]) =>
      permissions.map((permission) => [template, permission]),
    )
    const added = await queries.any(sql.type(Added)`
      with given as (
        insert into res_role_permissions (id, tenant_id, role_id, permission)
        select gen_random_uuid(), r.tenant_id, r.id, w.permission
        from res_roles r
        join ${sql.unnest(wanted, ['text', 'text'])} as w (template, permission) on w.template = r.template
        join tenants t on t.id = r.tenant_id and t.status <> 'closed' and (${tenant}::text is null or t.slug = ${tenant})
        where r.deleted_at is null and not exists (
          select from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id and p.permission in (w.permission, '*'))
        returning tenant_id, role_id, permission),
      raised as (
        update res_roles r set version = r.version + 1, updated_at = now()
        from (select distinct tenant_id, role_id from given) g where r.tenant_id = g.tenant_id and r.id = g.role_id
        returning r.id)
      select t.slug, r.code, g.permission from given g join res_roles r on r.tenant_id = g.tenant_id and r.id = g.role_id join tenants t on t.id = g.tenant_id
      order by t.slug, r.code, g.permission`)
    for (const { slug, code, permission } of added) say(`${slug}: ${code} may ${permission}`)
    progress(added.length, added.length)
    return added.length
  },
})
