import { Type } from 'typebox'
import { sql } from '../../domain/kernel/index.ts'
import { FORMER_SEEDED_ROLES, SEEDED_ROLES } from '../../domain/tenancy/index.ts'
import { defineScript } from '../define-script.ts'

const Untouched = Type.Object({
  id: Type.String(),
  tenant_id: Type.String(),
  slug: Type.String(),
  code: Type.String(),
  template: Type.String(),
})

export default defineScript({
  name: 'narrow-seeded-roles',
  description:
    'Limits the seeded roles manager, operator and viewer to business data, in tenants that left them as they were seeded; --tenant=slug for one tenant. Changed roles are left alone and named.',
  async run({ queries, flags, progress, say }) {
    const only = [...flags].find((flag) => flag.startsWith('--tenant='))?.slice('--tenant='.length) ?? null
    let narrowed = 0
    for (const [template, former] of Object.entries(FORMER_SEEDED_ROLES)) {
      // An operator role of before alerts lacks the permission that was added with them.
      const seeds = [former, former.filter((code) => code !== 'telemetry.alert.acknowledge')].map((seed) => [...new Set(seed)].sort())
      const roles = await queries.any(sql.type(Untouched)`
        select r.id, r.tenant_id, t.slug, r.code, r.template from res_roles r
        join tenants t on t.id = r.tenant_id and t.status <> 'closed' and (${only}::text is null or t.slug = ${only})
        where r.template = ${template} and r.deleted_at is null
          and array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id order by p.permission collate "C")
            = any(array(select (select array_agg(s order by s collate "C") from jsonb_array_elements_text(seed) as s) from jsonb_array_elements(${sql.jsonb(seeds)}) as seed)::text[])`)
      for (const role of roles) {
        const permissions = SEEDED_ROLES[role.template as keyof typeof SEEDED_ROLES].permissions
        await queries.query(sql.run`
          delete from res_role_permissions where tenant_id = ${role.tenant_id} and role_id = ${role.id} and permission <> all (${sql.array([...permissions], 'text')})`)
        await queries.query(sql.run`
          insert into res_role_permissions (id, tenant_id, role_id, permission)
          select gen_random_uuid(), ${role.tenant_id}, ${role.id}, p from unnest(${sql.array([...permissions], 'text')}) as p
          on conflict (tenant_id, role_id, permission) do nothing`)
        await queries.query(sql.run`
          update res_roles set version = version + 1, updated_at = now() where tenant_id = ${role.tenant_id} and id = ${role.id}`)
        say(`${role.slug}: ${role.code} reads business data alone`)
        narrowed++
      }
    }
    progress(narrowed, narrowed)
    return narrowed
  },
})
