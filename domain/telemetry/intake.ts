// How many readings a company's plan lets in, by the minute.
import { Type } from 'typebox'
import { sql, Timestamp, type Tx } from '../kernel/index.ts'

const MINUTE_MS = 60_000
/** The minute that a moment is in, in milliseconds since 1970. */
export const minuteOf = (at: number): number => Math.floor(at / MINUTE_MS) * MINUTE_MS

/** How long a topic of readings keeps a message. */
const RETENTION_MS = 3 * 86_400_000

/**
 * When Kafka can have received a message. A topic may carry the producer's own times: one in the future, or older than
 * the topic keeps messages, is taken for now. `npm run migrate` makes the topics with the broker's times.
 */
export const receivedWithin = (receivedAt: number, now: number): number =>
  receivedAt <= now && receivedAt > now - RETENTION_MS ? receivedAt : now

const Taken = Type.Object({ minute: Timestamp, readings: Type.Integer() }, { additionalProperties: false })
const isoOf = (minutes: Iterable<number>): string[] =>
  [...new Set(minutes)].sort((a, b) => a - b).map((minute) => new Date(minute).toISOString())

/** What is left of each of these minutes. Two consumers who ask at once may each give it away: a limit is a little soft. */
export async function roomIn(tx: Tx, limit: number, minutes: Iterable<number>): Promise<Map<number, number>> {
  const asked = isoOf(minutes)
  const found = await tx.any(sql.prepared(Taken)`
    select minute, readings from tel_intake where tenant_id = ${tx.tenantId} and minute = any(${sql.array(asked, 'timestamptz')})`)
  const room = new Map(asked.map((minute) => [Date.parse(minute), limit]))
  for (const { minute, readings } of found) room.set(Date.parse(minute), limit - readings)
  return room
}

/** Adds what was taken in. The last statement of a transaction, as its rows are everybody's: they are held for the commit alone. */
export async function noteIntake(tx: Tx, taken: ReadonlyMap<number, number>): Promise<void> {
  if (taken.size === 0) return
  const rows = [...taken].sort(([a], [b]) => a - b).map(([minute, readings]) => [new Date(minute).toISOString(), readings])
  await tx.query(sql.run`
    insert into tel_intake as t (tenant_id, minute, readings)
    select ${tx.tenantId}, i.minute, i.readings from ${sql.unnest(rows, ['timestamptz', 'int8'])} as i (minute, readings)
    on conflict (tenant_id, minute) do update set readings = t.readings + excluded.readings`)
}
