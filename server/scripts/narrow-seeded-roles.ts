import { Type } from 'typebox'
import { oneOf, sql } from '../../domain/kernel/index.ts'
import { FORMER_SEEDED_ROLES, type RoleCode, seededPermissions } from '../../domain/tenancy/index.ts'
import { defineScript } from '../define-script.ts'

const Seeded = Type.Object({
  id: Type.String(),
  tenant_id: Type.String(),
  slug: Type.String(),
  kind: oneOf(['customer', 'platform']),
  code: Type.String(),
  template: Type.String(),
  permissions: Type.Array(Type.String()),
})

/** Whether a role is as it was seeded; operators of earlier versions lack the permission that came with alerts. */
function isUntouched(permissions: readonly string[], former: readonly string[]): boolean {
  const [held, seeded] = [new Set(permissions), new Set(former)]
  return held.isSubsetOf(seeded) && [...seeded.difference(held)].every((code) => code === 'telemetry.alert.acknowledge')
}

export default defineScript({
  name: 'narrow-seeded-roles',
  description:
    'Limits the seeded roles manager, operator and viewer to business data, in tenants that left them as they were seeded; --tenant=slug for one tenant. Changed roles are left alone.',
  flags: ['--tenant=slug'],
  async run({ queries, tenant, progress, say }) {
    let narrowed = 0
    for (const [template, former] of Object.entries(FORMER_SEEDED_ROLES)) {
      const found = await queries.any(sql.type(Seeded)`
        select r.id, r.tenant_id, t.slug, t.kind, r.code, r.template,
          array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions
        from res_roles r
        join tenants t on t.id = r.tenant_id and t.status <> 'closed' and (${tenant}::text is null or t.slug = ${tenant})
        where r.template = ${template} and r.deleted_at is null order by t.slug, r.code`)
      const roles = found.filter(({ permissions }) => isUntouched(permissions, former))
      for (const role of roles) {
        const permissions = seededPermissions(role.template as RoleCode, role.kind)
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
