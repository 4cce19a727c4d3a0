// What the app is built on, made by server/runtime.ts and handed in: plugins and routes reach it as `app.services`.
import type { KeyObject } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { AccessCache } from '../domain/access/index.ts'
import type { Announcements, LiveEvents } from '../domain/events/index.ts'
import type { FileKeeper } from '../domain/files/index.ts'
import type { OpenIdClient, SigningKeys } from '../domain/identity/index.ts'
import type { Listener } from '../domain/kernel/index.ts'
import type { Activity, ApiCalls, Catalogue } from '../domain/platform/index.ts'
import type { Planes, ResolveTxt, TenantDirectory, Vault } from '../domain/tenancy/index.ts'

/** Puts bytes where devices put theirs; kept when the broker has them. Throws when it cannot be reached. */
export type Publish = (
  messages: readonly { topic: string; key: string; value: string; headers?: Record<string, string> }[],
) => Promise<void>

export interface Services {
  planes: Planes
  listener: Listener
  tenants: TenantDirectory
  access: AccessCache
  catalogue: Catalogue
  apiCalls: ApiCalls
  activity: Activity
  keys: SigningKeys
  vault: Vault
  openId: OpenIdClient
  files: FileKeeper
  resolveTxt: ResolveTxt
  redis: Redis | null
  announcements: Announcements
  live: LiveEvents
  publish: Publish
  pingBroker: () => Promise<void>
  settings: {
    development: boolean
    /** Whether platform staff needs a second factor. */
    staffMfa: boolean
    baseDomain: string
    /** `https://{host}`: where a tenant's pages are. */
    publicUrl: string
    /** Signs cursors. A key object: preparing one from bytes costs six times the signature. */
    cursorKey: KeyObject
    /** Seals the trail; never reaches the database. */
    sealKey: KeyObject
    rateLimit: number
    /** How late the event loop may be, in ms, before work is refused. */
    overloadDelayMs: number
    rateLimitAuth: number
    /** The proxies whose X-Forwarded-For counts, as Fastify's `trustProxy` takes it. */
    trustedProxies: false | string[] | ((address: string, hop: number) => boolean)
    /** Seconds between two mails of one kind that users ask for without a session. */
    mailIntervalSeconds: number
    /** Days for which readings are kept: older ones are refused. */
    keepReadingsDays: number
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    services: Services
  }
}
