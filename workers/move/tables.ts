// What of a tenant is carried from one place to another.
import type { Client } from 'pg'

/** A name in SQL. */
export const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** A table of a tenant, as a move sees it. */
export interface MovedTable {
  /** `erp_party`, or `plane.audit_events`: by this it is called in notes and reports. */
  name: string
  /** Its schema where it is not the place's own. */
  schema: string | null
  /** But for those that the place gives itself: arrival numbers, what is generated, numbers of transactions. */
  columns: string[]
  /** Of its primary key, with their types. */
  key: { name: string; type: string }[]
  /** A number that the database gives in the order of arrival: rows are put in by it, and get a new one. */
  order: string | null
  /** Which rows are carried while the tenant still works at the old place. */
  beforeSwitch: string
}

/**
 * Tables that are not carried row by row. What is used is a sum and is carried as one; the notes of moves belong to
 * their place.
 */
const NOT_CARRIED = ['usage_changes', 'move_sides', 'changed_rows']

/**
 * The tables of a place that have a tenant's rows, in the order of their names. Those of the schema `plane` belong to the
 * database and stay in it.
 */
export async function tablesOf(client: Client, schema: string): Promise<MovedTable[]> {
  const { rows } = await client.query<{ name: string; columns: string[]; key: MovedTable['key']; order: string | null }>(
    `select c.relname as name, a.columns, k.key, a.identity as "order"
     from pg_class c
     join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
     cross join lateral (
       select array_agg(attname::text order by attnum) filter (where attidentity <> 'a' and attgenerated = '' and atttypid <> 'xid8'::regtype) as columns,
         max(attname::text) filter (where attidentity = 'a') as identity, bool_or(attname = 'tenant_id') as of_tenant
       from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped) as a
     cross join lateral (
       select json_agg(json_build_object('name', t.attname, 'type', format_type(t.atttypid, t.atttypmod)) order by t.attnum) as key
       from pg_index i join pg_attribute t on t.attrelid = i.indrelid and t.attnum = any (i.indkey) where i.indrelid = c.oid and i.indisprimary) as k
     where c.relkind in ('r', 'p') and not c.relispartition and a.of_tenant and not c.relname = any ($2)
     order by c.relname`,
    [schema, NOT_CARRIED],
  )
  const own = schema !== 'plane'
  return rows.map(({ name, ...table }) => ({
    ...table,
    name: own ? name : `plane.${name}`,
    schema: own ? null : 'plane',
    // A pending event is published by the relay of its own place. It is carried once it is held (`Side.holdEvents`), or with the switch.
    beforeSwitch: name === 'event_outbox' ? `(status <> 'pending' or available_at = 'infinity')` : 'true',
  }))
}
