// How far the migrations of all databases and tenants are, as the last runs noted it.
import { type Static, Type } from 'typebox'
import { nullable, oneOf, type Queries, sql, Timestamp, Uuid } from '../kernel/index.ts'

export const MigrationState = Type.Object(
  {
    target: Type.String({ description: 'control, data:main, telemetry:main, tenant:acme' }),
    plane: Type.String(),
    tenant_id: nullable(Uuid),
    state: oneOf(['running', 'done', 'failed']),
    applied: Type.Array(Type.String(), { description: 'What the last run that had something to do applied' }),
    error: nullable(Type.String()),
    started_at: Timestamp,
    finished_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)

/** In the order of their names. `after` is the target that the page before ended with. */
export const migrationStates = (
  queries: Queries,
  state: string | null,
  limit: number,
  after: string | null,
): Promise<readonly Static<typeof MigrationState>[]> =>
  queries.any(sql.prepared(MigrationState)`
    select target, plane, tenant_id, state, applied, error, started_at, finished_at from platform_migrations
    where (${state}::text is null or state = ${state}) and (${after}::text is null or target > ${after})
    order by target limit ${limit}`)
