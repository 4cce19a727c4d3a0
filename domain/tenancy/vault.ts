// A tenant's secrets, encrypted under the tenant's own key: destroying that key is erasing them.
import { AsyncLocalStorage } from 'node:async_hooks'
import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { Type } from 'typebox'
import { type Database, decrypt, encrypt, failure, newId, type Secrets, sql, systemScope } from '../kernel/index.ts'

const CACHE_MS = 60_000
const MAX_KEYS = 5_000
const Wrapped = Type.Object({ key: Type.String() })

/** Keeps tenants' data keys, wrapped by the master key, which never reaches the database server. */
export class Vault {
  readonly #control: Database
  readonly #master: Buffer
  readonly #masterId: string
  /** A key may be asked for in the middle of a transaction on another database; slonik takes a second connection in one for a mistake. */
  readonly #outside = AsyncLocalStorage.snapshot()
  readonly #keys = new Map<string, { key: Promise<Buffer>; until: number }>()

  /** `masterKey`: 32 bytes in base64. */
  constructor(control: Database, masterKey: string) {
    const bytes = Buffer.from(masterKey, 'base64')
    this.#control = control
    this.#master = Buffer.from(hkdfSync('sha256', bytes, '', 'tenantry vault', 32))
    this.#masterId = createHash('sha256').update(bytes).digest('hex').slice(0, 16)
  }

  /** Encrypts for one tenant and purpose (`res_user_mfa.secret`). */
  async seal(tenantId: string, purpose: string, plain: Buffer | string): Promise<Buffer> {
    return encrypt(await this.#key(tenantId), plain, `${tenantId} ${purpose}`)
  }

  async open(tenantId: string, purpose: string, sealed: Buffer): Promise<Buffer> {
    return decrypt(await this.#key(tenantId), sealed, `${tenantId} ${purpose}`)
  }

  /** A keyed hash of a text, the same for the same text of one tenant and purpose: by it what is sealed is found. */
  async blind(tenantId: string, purpose: string, plain: string): Promise<Buffer> {
    const key = hkdfSync('sha256', await this.#key(tenantId), '', `blind index ${tenantId} ${purpose}`, 32)
    return createHmac('sha256', Buffer.from(key)).update(plain).digest()
  }

  /** The key of one tenant at work. */
  of = (tenantId: string): Secrets => ({
    seal: (purpose, plain) => this.seal(tenantId, purpose, plain),
    open: (purpose, sealed) => this.open(tenantId, purpose, sealed),
    blind: (purpose, plain) => this.blind(tenantId, purpose, plain),
  })

  /** For the platform's own secrets, such as signing keys. */
  wrap = (purpose: string, plain: Buffer | string): Buffer => encrypt(this.#master, plain, purpose)
  unwrap = (purpose: string, sealed: Buffer): Buffer => decrypt(this.#master, sealed, purpose)

  #key(tenantId: string): Promise<Buffer> {
    const known = this.#keys.get(tenantId)
    if (known && known.until > Date.now()) return known.key
    if (this.#keys.size >= MAX_KEYS) this.#keys.clear()
    const key = this.#outside(() => this.#load(tenantId))
    this.#keys.set(tenantId, { key, until: Date.now() + CACHE_MS })
    key.catch(() => this.#keys.delete(tenantId))
    return key
  }

  /** Makes the key at its first use; of two that do so at once the unique constraint lets one win, and both read that one. */
  async #load(tenantId: string): Promise<Buffer> {
    const fresh = this.wrap(`tenant key ${tenantId}`, randomBytes(32)).toString('hex')
    const stored = await this.#control.write(systemScope(tenantId, 'vault', ''), async (tx) => {
      const find = () =>
        tx.maybeOne(sql.prepared(Wrapped)`
          select encode(wrapped_key, 'hex') as key from tenant_keys where tenant_id = ${tenantId} and destroyed_at is null`)
      const found = await find()
      if (found) return found
      await tx.query(sql.run`
        insert into tenant_keys (id, tenant_id, wrapped_key, master_key_id)
        values (${newId()}, ${tenantId}, decode(${fresh}, 'hex'), ${this.#masterId}) on conflict (tenant_id) do nothing`)
      return find()
    })
    if (!stored) throw failure('not_found') // destroyed: the tenant was erased
    return this.unwrap(`tenant key ${tenantId}`, Buffer.from(stored.key, 'hex'))
  }
}
