// Which databases answer, and what waits to be published in each.
import type { Static } from 'typebox'
import type { Database } from '../kernel/index.ts'
import { type Waiting, waiting } from './outbox.ts'

/** How long a database may take to answer, in ms, and how many are asked at once. */
const PATIENCE_MS = 2_000
const AT_ONCE = 16

export interface NamedDatabase {
  name: string
  /** Whose own it is; null for one of a catalog. */
  tenant_id: string | null
  database: Database
}
export type DatabaseHealth = Omit<NamedDatabase, 'database'> & { up: boolean; outbox: Static<typeof Waiting> | null }

/** Asks each; one that does not answer within two seconds is down. */
export async function checkDatabases(databases: readonly NamedDatabase[]): Promise<DatabaseHealth[]> {
  const answers: DatabaseHealth[] = []
  const queue = [...databases.entries()]
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [at, { database, ...named }] = next
      const late = new Promise<null>((resolve) => setTimeout(resolve, PATIENCE_MS, null).unref())
      const outbox = await Promise.race([database.platform(waiting).catch(() => null), late])
      answers[at] = { ...named, up: outbox !== null, outbox }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  return answers
}
