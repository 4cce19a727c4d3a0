// The level of a permission: which scope it is decided in. A scope belongs to what is touched, not to the actor's context.
import type { Context } from '../kernel/index.ts'

/**
 * - `tenant`: the whole tenant; only tenant-wide assignments count.
 * - `organization`: the organization of the path or context. Assignments of the whole organization count; for reading, those
 *   of the context's workspace too, because work in a workspace needs the organization's master data.
 * - `workspace`: the context. Documents are narrowed to the workspaces in which the permission is held.
 * - `object`: the scope of the object; the domain function decides or narrows the rows. Held in any scope at the gate.
 * - `shared`: data that every organization of the tenant reads, such as metrics and role definitions. Held in any scope.
 */
export type Level = 'tenant' | 'organization' | 'workspace' | 'object' | 'shared'

export interface PermissionEntry {
  /** The module that a tenant needs for it; null for what every tenant has. */
  module: string | null
  /** Asked for on the platform's own host alone. */
  platform: boolean
  level: Level
  /** Whether it lets the actor change something. */
  mutates: boolean
  /** Whether all its routes name the organization in their path: the caller's context is not asked. */
  organizationInPath: boolean
  /** Whether what it lets the actor change can be changed while the tenant is read-only. */
  allowReadOnly: boolean
  /** Whether it is for signed-in users alone, and never for API keys. */
  sessionOnly: boolean
  /** `GET /api/v1/…`, of each route that asks for it. */
  routes: string[]
}

/** Every permission that some route asks for, by code. */
export type Registry = ReadonlyMap<string, PermissionEntry>

export const TENANT: Context = { organizationId: null, workspaceId: null }

/** The scope in which a permission of a level is decided for an actor who works in `context`. */
export function scopeOfLevel({ level, mutates }: Pick<PermissionEntry, 'level' | 'mutates'>, context: Context): Context {
  if (level === 'tenant') return TENANT
  return level === 'organization' && mutates ? { organizationId: context.organizationId, workspaceId: null } : context
}
