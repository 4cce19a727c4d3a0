// The sender of a message, as its device key proves: what the flood control may hold against a tenant.
import { newId, systemScope } from '../domain/kernel/index.ts'
import { authenticateDevices, claimedSender, hashKey } from '../domain/telemetry/index.ts'
import { databaseOf, type Planes, type TenantDirectory } from '../domain/tenancy/index.ts'
import type { Message } from './kafka.ts'

/** How long an answer about a key is good. It decides in which topic a message waits, and never whether it is taken. */
const KEEP_MS = 60_000
const MAX_ENTRIES = 100_000

/** All messages whose key proves nothing, together: a flood of them is one sender's, and no tenant's. */
export const UNPROVEN = ''

interface Claim {
  tenant: string
  device: string
  hash: string
}

/**
 * Tells the sender of each message: the tenant whose device the message names and whose key it carries, or `UNPROVEN`.
 * The slug in a message is a claim by any client that writes to the topic; without this check one tenant's readings could be
 * put aside by messages that another one wrote in its name.
 */
export class Senders {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #known = new Map<string, { proven: boolean; until: number }>()

  constructor(planes: Planes, tenants: TenantDirectory) {
    this.#planes = planes
    this.#tenants = tenants
  }

  /** The sender of each message, in their order. Throws while a database that must be asked is away. */
  async of(messages: readonly Message[]): Promise<string[]> {
    if (this.#known.size > MAX_ENTRIES) this.#known.clear()
    const claims = messages.map(claimOf)
    const now = Date.now()
    const unknown = new Map<string, Claim>()
    for (const claim of claims) if (claim && !this.#fresh(keyOf(claim), now)) unknown.set(keyOf(claim), claim)
    // One query for a tenant and batch, whatever the number of its devices.
    for (const [slug, asked] of Map.groupBy(unknown.values(), ({ tenant }) => tenant)) await this.#ask(slug, asked, now)
    return claims.map((claim) => (claim && this.#known.get(keyOf(claim))?.proven ? claim.tenant : UNPROVEN))
  }

  #fresh(key: string, now: number): boolean {
    return (this.#known.get(key)?.until ?? 0) > now
  }

  async #ask(slug: string, claims: readonly Claim[], now: number): Promise<void> {
    const tenant = await this.#tenants.bySlug(slug)
    const proven = tenant
      ? await databaseOf(this.#planes, 'telemetry', tenant).read(systemScope(tenant.id, 'flood control', newId()), (tx) =>
          authenticateDevices(
            tx,
            claims.map(({ device, hash }) => [device, hash] as const),
          ),
        )
      : new Map<string, unknown>()
    for (const claim of claims) this.#known.set(keyOf(claim), { proven: proven.has(`${claim.device} ${claim.hash}`), until: now + KEEP_MS })
  }
}

const keyOf = ({ tenant, device, hash }: Claim): string => `${tenant} ${device} ${hash}`

function claimOf({ value, headers }: Message): Claim | null {
  const claimed = claimedSender(value)
  const key = headers['device-key']
  return claimed && key ? { ...claimed, hash: hashKey(key) } : null
}
