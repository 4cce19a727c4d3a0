import { Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { type Fragment, sql } from './sql.ts'

/** What is numbered: purchase orders, goods receipts, stock transfers, stock counts, landed costs. */
export const SERIES = ['PO', 'GR', 'ST', 'SC', 'LC'] as const
export type Series = (typeof SERIES)[number]

const Format = Type.Object(
  {
    prefix: Type.String({ pattern: '^[A-Z0-9][A-Z0-9/.-]{0,15}$', description: 'What numbers begin with', examples: ['ORD'] }),
    digits: Type.Integer({ minimum: 1, maximum: 12, description: 'Padded with zeros to so many' }),
  },
  { additionalProperties: false },
)

/** How an organization numbers its documents; what is not named is numbered `PO-2026-00001`. */
export const Numbering = Type.Partial(
  Type.Object(Object.fromEntries(SERIES.map((series) => [series, Format])) as Record<Series, typeof Format>, {
    additionalProperties: false,
  }),
  { additionalProperties: false, examples: [{ PO: { prefix: 'ORD', digits: 6 } }] },
)

/** The fiscal year of a moment (UTC), named after the calendar year in which it begins. */
export const fiscalYear = (now: Date, startMonth: number): number => now.getUTCFullYear() - (now.getUTCMonth() + 1 < startMonth ? 1 : 0)

const Next = Type.Object({ code: Type.String() })

/**
 * The statement that takes the next number of a series in the context's organization and this fiscal year, and returns it
 * as `code`: `PO-2026-00001`. Refuses with `context_required`.
 *
 * Gapless: the series' row stays locked until the transaction ends, and a rollback takes the number back. Run it last, or
 * as a part of the statement that needs the number, so that the lock is held shortly. The number goes on when the prefix
 * is changed, so no code comes twice.
 */
export function takeNumber(tx: Tx, series: Series): Fragment {
  if (!tx.context.organizationId) throw failure('context_required')
  const { prefix, digits } = tx.numberFormats?.numbering[series] ?? { prefix: series, digits: 5 }
  const year = fiscalYear(tx.now, tx.numberFormats?.fiscal_year_start_month ?? 1)
  return sql.fragment`
    insert into plane.erp_number_sequence as s (tenant_id, organization_id, series, year, value)
    values (${tx.tenantId}, ${tx.context.organizationId}, ${series}, ${year}, 1)
    on conflict (tenant_id, organization_id, series, year) do update set value = s.value + 1
    returning ${`${prefix}-${year}-`} || lpad(value::text, greatest(${digits}::int, length(value::text)), '0') as code`
}

/** The next number, in a statement of its own. */
export const nextNumber = async (tx: Tx, series: Series): Promise<string> =>
  (await tx.one(sql.prepared(Next)`${takeNumber(tx, series)}`)).code
