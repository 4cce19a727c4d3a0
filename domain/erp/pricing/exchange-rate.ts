// Exchange rates: one of a currency in the organization's own, from a day on.
import { type Static, Type } from 'typebox'
import { Currency, DateOnly, failure, type RowOf, resource, row, scopeOf, sql, type Tx, Uuid } from '../../kernel/index.ts'

/** A positive factor with up to nine decimals, as a decimal string. */
export const ExchangeRateFactor = Type.String({
  pattern: '^(?=.*[1-9])\\d{1,9}(\\.\\d{1,9})?$',
  'x-pg': 'numeric',
  description: 'What one of the currency is in the organization’s own: a decimal string above zero, up to 9 decimals',
  examples: ['0.9215'],
})

export const ExchangeRate = row('erp_exchange_rate', {
  currency: Currency,
  rate: ExchangeRateFactor,
  valid_from: DateOnly,
})
export type ExchangeRate = RowOf<typeof ExchangeRate>

export const exchangeRates = resource(ExchangeRate, {
  module: 'erp.procurement',
  permission: 'erp.exchange_rate',
  filter: ['currency', 'valid_from', 'created_at'],
  sort: ['valid_from', 'created_at'],
  check: notOwnCurrency,
})

async function notOwnCurrency(tx: Tx, rates: readonly Record<string, unknown>[]): Promise<void> {
  if (rates.some(({ currency }) => currency === tx.currency))
    throw failure('invalid_value', {
      path: '/currency',
      rule: 'foreign',
      message: 'is the organization’s own currency: its rate is always 1',
    })
}

const Rate = Type.Object({ rate: Type.String(), by: Type.Array(Uuid) }, { additionalProperties: false })
type Rate = Static<typeof Rate>

/**
 * The rate of a currency on the day of the unit of work (UTC), as a decimal string; `1` for the organization's own. `by` are the
 * users who recorded it, or changed or deleted any rate of the currency since a moment. Throws `exchange_rate_missing` where
 * no rate begins on that day or before.
 */
export async function rateOfDay(tx: Tx, currency: string, since: string): Promise<Rate> {
  if (currency === tx.currency) return { rate: '1', by: [] }
  const day = tx.now.toISOString().slice(0, 10)
  const ofCurrency = sql.fragment`${sql.and(scopeOf(tx, ExchangeRate))} and currency = ${currency}`
  const found = await tx.maybeOne(sql.prepared(Rate)`
    select trim_scale(rate)::text as rate, array(
        select distinct changed_by from erp_exchange_rate
        where ${ofCurrency} and changed_by is not null and (id = current.id or updated_at >= ${since})) as by
    from (
      select id, rate from erp_exchange_rate where ${ofCurrency} and valid_from <= ${day}::date and deleted_at is null
      order by valid_from desc limit 1) as current`)
  if (!found) throw failure('exchange_rate_missing', { currency, organization_currency: tx.currency, day })
  return found
}

/** Whether amounts of an organization are kept in its own currency: orders, rates and stock that is valued. */
export const isCurrencyUsed = (tx: Tx, organizationId: string): Promise<boolean> => {
  const of = sql.fragment`where tenant_id = ${tx.tenantId} and organization_id = ${organizationId}`
  return tx.exists(sql.run`
    (select 1 from erp_purchase_order ${of} limit 1) union all (select 1 from erp_exchange_rate ${of} limit 1) union all (select 1 from erp_stock_layer ${of} limit 1)`)
}
