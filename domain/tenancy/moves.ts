// A tenant goes from one place to another while it works: asked for, confirmed or taken back by staff, done by a worker.
import { type Static, Type } from 'typebox'
import { failure, newId, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { recordDecision } from './decisions.ts'
import { type Place, placeFor } from './storage.ts'
import { lockCustomer, lockTenant, type Tenant, tenantOf } from './tenant.ts'

const PlaceShape = Type.Object(
  {
    mode: oneOf(['shared', 'schema', 'database']),
    catalog_key: Type.String(),
    schema_name: nullable(Type.String()),
    database_name: nullable(Type.String()),
  },
  { additionalProperties: false },
)

/**
 * copying → switched → confirming → confirmed, or back: copying → cancelling → rolled_back before the switch, switched →
 * returning → cancelling → rolled_back after it.
 */
export const MOVE_STATES = ['copying', 'switched', 'confirming', 'confirmed', 'returning', 'cancelling', 'rolled_back'] as const
export type MoveState = (typeof MOVE_STATES)[number]

/** Of each table how many rows were compared, and the sum of their hashes. */
export const Compared = Type.Record(Type.String(), Type.Object({ rows: Type.Integer(), checksum: Type.String() }))
export type Compared = Static<typeof Compared>

export const Move = Type.Object(
  {
    id: Uuid,
    from_place: PlaceShape,
    to_place: PlaceShape,
    state: oneOf(MOVE_STATES),
    step: nullable(Type.String({ description: 'What is being done' })),
    tables: Compared,
    read_only_ms: nullable(Type.Integer({ description: 'How long writers waited for the switch' })),
    error: nullable(Type.String({ description: 'Why it was taken back, or why it waits' })),
    created_at: Timestamp,
    switched_at: nullable(Timestamp),
    ended_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type Move = Static<typeof Move>

const columns = sql.fragment`id, from_place, to_place, state, step, tables, read_only_ms, error, created_at, switched_at, ended_at`

/** A tenant's moves, the last first. */
export const movesOf = (tx: Tx): Promise<readonly Move[]> =>
  tx.any(sql.prepared(Move)`select ${columns} from tenant_moves where tenant_id = ${tx.tenantId} order by created_at desc limit 50`)

/** The last move of the tenant. Throws `not_found`. */
export async function lastMove(tx: Tx): Promise<Move> {
  const [last] = await movesOf(tx)
  if (!last) throw failure('not_found')
  return last
}

/** One move, by its id. Throws `not_found`. */
export async function moveOf(tx: Tx, id: string): Promise<Move> {
  const found = await tx.maybeOne(sql.prepared(Move)`select ${columns} from tenant_moves where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (!found) throw failure('not_found')
  return found
}

export const Destination = Type.Object(
  {
    mode: oneOf(['shared', 'schema', 'database']),
    catalog_key: Type.String({ maxLength: 64, description: 'Which server of the catalog', examples: ['main'] }),
  },
  { additionalProperties: false },
)

/** Whether two places are one: a tenant has one of each mode on a server. */
export const samePlace = (a: Place, b: Place): boolean => a.mode === b.mode && a.catalog_key === b.catalog_key

/** The job of the topic `tenantry.jobs.v1` that does what a move's state asks for. */
const wanted = (tx: Tx, id: string) => tx.emit({ type: 'job.tenant-move', entity_id: id, version: 1, data: {} })

/**
 * Begins to move a tenant; it works on meanwhile. Asked again for the move that is under way, the job begins again where
 * it was. Throws `not_found`, `invalid_reference` for a server that is not there, `invalid_value` for the place where it
 * is, `invalid_transition` for a tenant that is not ready or another move that has not ended.
 */
export async function requestMove(
  tx: Tx,
  { mode, catalog_key }: Static<typeof Destination>,
  catalog: ReadonlySet<string>,
  staffId: string | null,
): Promise<void> {
  if (!catalog.has(catalog_key)) throw failure('invalid_reference', { path: '/catalog_key', known: [...catalog] })
  await lockCustomer(tx, 'move')
  const to = placeFor(tx.tenantId, mode, catalog_key)
  const [last] = await movesOf(tx)
  if (last && !['confirmed', 'rolled_back'].includes(last.state)) {
    if (last.state !== 'copying' || !samePlace(last.to_place, to))
      throw failure('invalid_transition', { status: last.state, transition: 'move', move_id: last.id })
    return wanted(tx, last.id)
  }
  const tenant = await tenantOf(tx)
  if (samePlace(tenant, to)) throw failure('invalid_value', { path: '/mode', rule: 'elsewhere', message: 'is where the tenant lives' })
  if (tenant.state !== 'ready') throw failure('invalid_transition', { status: tenant.state, transition: 'move' })
  const id = newId()
  // Two that ask at once: the tenant's lock makes one wait, and the unique index is the last word.
  await tx.query(sql.run`
    insert into tenant_moves (id, tenant_id, from_place, to_place, requested_by)
    values (${id}, ${tx.tenantId}, ${JSON.stringify(placeOf(tenant))}::jsonb, ${JSON.stringify(to)}::jsonb, ${staffId})`)
  await tx.query(
    sql.run`update tenant_connection_profiles set state = 'moving', version = version + 1, updated_at = ${tx.now.toISOString()} where tenant_id = ${tx.tenantId}`,
  )
  await recordDecision(tx, 'platform.tenant.move_requested', { move_id: id, mode, catalog_key })
  tx.emit({ type: 'platform.tenant.move_requested', entity_id: tx.tenantId, version: 1, data: { move_id: id, mode, catalog_key } })
  wanted(tx, id)
}

export const placeOf = ({ mode, catalog_key, schema_name, database_name }: Tenant): Place => ({
  mode,
  catalog_key,
  schema_name,
  database_name,
})

async function steer(tx: Tx, transition: string, ways: Partial<Record<MoveState, MoveState>>): Promise<void> {
  await lockTenant(tx)
  const last = await lastMove(tx)
  const state = ways[last.state]
  if (!state) throw failure('invalid_transition', { status: last.state, transition })
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenant_moves set state = ${state}, error = null, version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId} and id = ${last.id}`)
  if (state === 'returning') {
    await tx.query(
      sql.run`update tenant_connection_profiles set state = 'moving', version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId}`,
    )
  }
  await recordDecision(tx, `platform.tenant.move_${state}`, { move_id: last.id })
  wanted(tx, last.id)
}

/** Gives up the old copy of a tenant that was switched. Throws `not_found`, `invalid_transition`. */
export const confirmMove = (tx: Tx): Promise<void> => steer(tx, 'confirm', { switched: 'confirming', confirming: 'confirming' })

/**
 * Takes a move back: before the switch the tenant never left; after it, it returns to the old copy with everything that
 * was written since. Throws `not_found`, `invalid_transition`.
 */
export const rollBackMove = (tx: Tx): Promise<void> =>
  steer(tx, 'roll_back', { copying: 'cancelling', switched: 'returning', cancelling: 'cancelling', returning: 'returning' })

// What follows is for the worker that has the lease.

/** Takes a move over: whoever worked on it before is refused from now on. Throws `not_found`. */
export async function takeLease(tx: Tx, id: string, lease: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`update tenant_moves set lease = ${lease} where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (rowCount === 0) throw failure('not_found')
}

export interface Mark {
  /** Only while the move is in this state: staff may have decided otherwise meanwhile. */
  in: MoveState
  state?: MoveState
  step?: string
  tables?: Compared
  error?: string | null
  readOnlyMs?: number
}

/** Writes down how far a move is. Throws `version_conflict` when another worker took it over or staff decided otherwise. */
export async function markMove(tx: Tx, id: string, lease: string, mark: Mark): Promise<void> {
  const now = tx.now.toISOString()
  const { state = mark.in, step = null, tables = null, error, readOnlyMs = null } = mark
  const { rowCount } = await tx.query(sql.run`
    update tenant_moves set state = ${state}, step = coalesce(${step}, step), tables = coalesce(${tables && JSON.stringify(tables)}::jsonb, tables),
      error = case when ${error !== undefined} then ${error ?? null} else error end, read_only_ms = coalesce(${readOnlyMs}::int, read_only_ms),
      switched_at = case when ${state === 'switched' && mark.in !== 'switched'} then ${now}::timestamptz else switched_at end,
      ended_at = case when ${state === 'confirmed' || state === 'rolled_back'} then ${now}::timestamptz end,
      version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${id} and lease = ${lease} and state = ${mark.in}`)
  if (rowCount === 0) throw failure('version_conflict')
}

/** Makes writers wait, or lets them on; every process knows when this has committed. */
export async function pauseWriters(tx: Tx, paused: boolean): Promise<void> {
  await tx.query(sql.run`
    update tenant_connection_profiles set writable = ${!paused}, version = version + 1, updated_at = ${tx.now.toISOString()} where tenant_id = ${tx.tenantId}`)
}

/** Says that the tenant is not moved any more. */
export async function stayAtHome(tx: Tx): Promise<void> {
  await tx.query(sql.run`
    update tenant_connection_profiles set state = 'ready', writable = true, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and (state <> 'ready' or not writable)`)
}

/** Says where the tenant lives from now on; every process knows when this has committed. */
export async function liveAt(tx: Tx, place: Place, migrationVersion: number): Promise<void> {
  await tx.query(sql.run`
    update tenant_connection_profiles set mode = ${place.mode}, catalog_key = ${place.catalog_key}, schema_name = ${place.schema_name},
      database_name = ${place.database_name}, state = 'ready', writable = true, migration_version = ${migrationVersion},
      version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId}`)
}
