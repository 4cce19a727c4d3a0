// Codes of derived metrics: a tenant's metrics and derived metrics share one set of codes.
import { type Static, Type } from 'typebox'
import { failure, sql, type Tx, Uuid } from '../kernel/index.ts'
import { parseExpression } from './expression.ts'

/** Derived metrics of a tenant at most: all of them are read where one is changed. */
export const MAX_DERIVED = 500

const Derived = Type.Object({ id: Uuid, code: Type.String(), expression: Type.String() }, { additionalProperties: false })
export type DerivedCode = Static<typeof Derived>

/** The derived metrics of the tenant. Whoever decides by them holds `metricsLock`, under which they and metrics are changed. */
export const derivedCodes = (tx: Tx): Promise<readonly DerivedCode[]> =>
  tx.any(sql.prepared(Derived)`
    select id, code, expression from tel_derived_metric where tenant_id = ${tx.tenantId} and deleted_at is null order by code limit ${MAX_DERIVED + 1}`)

/** Which of these codes are those of derived metrics. */
export async function derivedAmong(tx: Tx, codes: readonly string[]): Promise<ReadonlySet<string>> {
  if (codes.length === 0) return new Set()
  const found = await tx.any(sql.prepared(Type.Object({ code: Type.String() }, { additionalProperties: false }))`
    select code from tel_derived_metric
    where tenant_id = ${tx.tenantId} and code = any(${sql.array([...codes], 'text')}) and deleted_at is null`)
  return new Set(found.map(({ code }) => code))
}

/** Refuses with `already_exists` a metric with the code of a derived one. The caller holds `metricsLock`. */
export async function requireNotDerived(tx: Tx, codes: readonly string[]): Promise<void> {
  const [code] = await derivedAmong(tx, codes)
  if (code !== undefined) throw failure('already_exists', { path: '/code', code }, `${code} is the code of a derived metric.`)
}

/** Refuses with `in_use` to rename a metric that a derived one is computed from. The caller holds `metricsLock`. */
export async function requireNoInputs(tx: Tx, codes: readonly string[]): Promise<void> {
  if (codes.length === 0) return
  for (const { code, expression } of await derivedCodes(tx)) {
    const input = parseExpression(expression).inputs.find((name) => codes.includes(name))
    if (input !== undefined)
      throw failure(
        'in_use',
        { path: '/code', metric: input, derived_metric: code },
        `The derived metric ${code} is computed from ${input}.`,
      )
  }
}
