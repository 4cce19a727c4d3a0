// Constraints are the last word on what is right; this gives their refusals the contract's words.
import {
  BackendTerminatedError,
  BackendTerminatedUnexpectedlyError,
  CheckIntegrityConstraintViolationError,
  ConnectionError,
  ForeignKeyIntegrityConstraintViolationError,
  InputSyntaxError,
  SlonikError,
  StatementTimeoutError,
  UnexpectedForeignConnectionError,
  UniqueIntegrityConstraintViolationError,
} from 'slonik'
import { Failure, failure } from './errors.ts'

const notAGtin = () =>
  failure('invalid_value', { path: '/barcode', rule: 'gtin', message: 'is no GTIN: its last digit does not check the others' })

/** `failed_constraint` names → refusals that deserve a word of their own. */
const NAMED: Record<string, () => Failure> = {
  erp_stock_quant_not_negative: () => failure('insufficient_stock'),
  erp_party_merged: () => failure('invalid_transition', { status: 'merged', transition: 'recover' }),
  erp_product_barcode_gtin: () => notAGtin(),
  erp_product_variant_barcode_gtin: () => notAGtin(),
  erp_stock_quant_reserved: () => failure('insufficient_stock'),
  erp_stock_serial: () => failure('invalid_value', { rule: 'serial', message: 'a serial number is one piece, in one place' }),
}

/** Walks the causes, because slonik wraps what the driver threw. */
const fieldOf = (name: 'code' | 'detail') => (error: unknown) => {
  for (let at = error; at && typeof at === 'object'; at = (at as { cause?: unknown }).cause) {
    const value = (at as Record<string, unknown>)[name]
    if (typeof value === 'string') return value
  }
  return undefined
}
const codeOf = fieldOf('code')
const detailOf = fieldOf('detail')
/** What the server said itself, below all wrapping. */
function saidOf(error: unknown): string {
  const { cause, message } = error as Error
  return cause instanceof Error ? saidOf(cause) : message
}

// Classes 08 (connection), 53 (resources) and 57P (shutdown) of the SQLSTATE table, and what the socket says.
const AWAY = /^(08|53|57P)|^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EPIPE|ETIMEDOUT)$/

/** The refusal that a database error stands for, or undefined when it is a fault of ours. */
export function databaseFailure(error: unknown): Failure | undefined {
  if (error instanceof UniqueIntegrityConstraintViolationError) {
    return failure('already_exists', { constraint: error.constraint, fields: fieldsOf(error.constraint) })
  }
  if (error instanceof ForeignKeyIntegrityConstraintViolationError) {
    const deleting = String((error.cause as Error | undefined)?.message ?? error.message).startsWith('update or delete on table')
    return failure(deleting ? 'in_use' : 'invalid_reference', { constraint: error.constraint })
  }
  if (error instanceof CheckIntegrityConstraintViolationError) {
    return NAMED[error.constraint ?? '']?.() ?? failure('invalid_value', { constraint: error.constraint })
  }
  if (error instanceof ConnectionError || error instanceof BackendTerminatedError || error instanceof BackendTerminatedUnexpectedlyError) {
    return failure('database_unavailable')
  }
  if (error instanceof StatementTimeoutError) return failure('overloaded')
  const code = codeOf(error)
  if (code === 'TN400') return failure('invalid_value', { rule: 'currency' }, 'The stock of this product is valued in another currency.')
  if (code === 'TN413') return failure('too_far_back', JSON.parse(detailOf(error) ?? '{}'))
  if (code === 'TN409') return failure('period_closed')
  if (code === 'TN503') return failure('tenant_migrating')
  if (code === 'TN403') return failure('plan_limit', JSON.parse(detailOf(error) ?? '{}'))
  // Of a time zone that Node knows and this server's older table does not.
  if (code === '22023' && /^time zone .* not recognized/.test(saidOf(error))) return failure('invalid_value', { rule: 'time_zone' })
  // A moment that the schema lets pass and the server has not: an offset above 15:59, a year zero.
  if (code === '22007' || code === '22008' || code === '22009') return failure('invalid_value', { rule: 'date_time' })
  if (code === '22003') return failure('invalid_value', { rule: 'numeric_range' })
  if (code && AWAY.test(code)) return failure('database_unavailable')
  // A second connection within a transaction: a mistake of ours, and nothing that passes.
  if (error instanceof InputSyntaxError || error instanceof UnexpectedForeignConnectionError || !(error instanceof SlonikError))
    return undefined
  return /connection|terminat/i.test(error.message) && !code ? failure('database_unavailable') : undefined
}

/** SQLSTATE classes of what a statement was given: 21 cardinality, 22 data, 23 constraints, 54 limits of the program. */
const OF_DATA = /^(21|22|23|54)(?!502)/

/**
 * Whether the same input fails again however often it is tried, because of what it contains. False for what passes by
 * itself or needs an operator: a database that is away, a missing column, a permission.
 */
export function isCausedByData(error: unknown): boolean {
  const failed = error instanceof Failure ? error : databaseFailure(error)
  if (failed) return failed.status < 500
  const code = codeOf(error)
  if (code !== undefined) return OF_DATA.test(code)
  return error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError || error instanceof URIError
}

/** `erp_party_code_key` → `['code']`: unique indexes are named `<table>__<columns>_key`. */
function fieldsOf(constraint: string | null): string[] {
  const match = constraint?.match(/__(.+)_key$/)
  return match?.[1] ? match[1].split('__') : []
}
