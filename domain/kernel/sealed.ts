// Columns that nobody reads in the database: encrypted under the tenant's key, and found by a keyed hash.
import type { Tx } from './context.ts'
import type { Row } from './row.ts'
import { type Fragment, sql } from './sql.ts'

/** What one tenant's key does. `purpose` (`erp_party_contact.email`) is bound to a value: it opens for no other column. */
export interface Secrets {
  seal(purpose: string, plain: string | Buffer): Promise<Buffer>
  open(purpose: string, sealed: Buffer): Promise<Buffer>
  /** The same for the same text, and says nothing about it to who has no key. */
  blind(purpose: string, plain: string): Promise<Buffer>
}

/** The column beside a sealed one that holds its hash. */
export const indexOf = (column: string): string => `${column}_index`
const purposeOf = (row: Row, column: string): string => `${row.table}.${column}`
const toBytea = (bytes: Buffer): string => `\\x${bytes.toString('hex')}`

/** Rows as they are written: sealed columns encrypted, with their hashes beside them. */
export async function sealRows(tx: Tx, row: Row, rows: readonly Record<string, unknown>[]): Promise<Record<string, unknown>[]> {
  const columns = Object.entries(row.sealed)
  if (columns.length === 0) return [...rows]
  return Promise.all(
    rows.map(async (plain) => {
      const written = { ...plain }
      for (const [column, canonical] of columns) {
        const value = plain[column] as string | null | undefined
        if (value === undefined) continue
        const purpose = purposeOf(row, column)
        written[column] = value === null ? null : toBytea(await tx.secrets.seal(purpose, value))
        if (canonical) written[indexOf(column)] = value === null ? null : toBytea(await tx.secrets.blind(purpose, canonical(value)))
      }
      return written
    }),
  )
}

/** Rows as they are shown. Opened when they are sent and not before: what is kept of an answer, or published, stays sealed. */
export async function openRows<R>(secrets: Secrets, row: Row, rows: readonly R[]): Promise<R[]> {
  const columns = Object.keys(row.sealed)
  if (columns.length === 0) return [...rows]
  return Promise.all(
    rows.map(async (sealed) => {
      const shown = { ...sealed } as Record<string, unknown>
      for (const column of columns) {
        const value = shown[column]
        if (typeof value === 'string') shown[column] = (await secrets.open(purposeOf(row, column), Buffer.from(value, 'hex'))).toString()
      }
      return shown as R
    }),
  )
}

/** The columns of a record that may be published. */
export const publicOf = (row: Row, record: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(record).filter(([column]) => !(column in row.sealed)))

/** Rows whose sealed column is one of these values. */
export async function sealedCondition(tx: Tx, row: Row, column: string, values: readonly unknown[]): Promise<Fragment> {
  const hashes = await Promise.all(values.map((value) => tx.secrets.blind(purposeOf(row, column), row.sealed[column]!(String(value)))))
  return sql.fragment`${sql.identifier([indexOf(column)])} = any(${sql.array(hashes, 'bytea')})`
}
